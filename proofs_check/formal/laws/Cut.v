(* Where a lower bound cuts a schedule: the lowest v whose part fits in fewer slots at all times. *)
From Membptt Require Import Laws Projection.

(* nothing stored weighs nothing, and more weighs no less *)
Definition fair pol := weigh pol false false false = 0 /\ monotone pol.

(* where an internal state holds its input, that input counts once, whoever holds it *)
Definition sharing pol := input_held pol = true -> forall o i, o || i = true ->
  weigh pol true o i <= weigh pol false o i.

(* ---------------------------------------------------------------- searching *)

(* the first state of a run without a property *)
Lemma first_fail : forall (l : trace) (g : act * st -> bool), forallb g l = false ->
  exists l1 x l2, l = l1 ++ x :: l2 /\ forallb g l1 = true /\ g x = false.
Proof.
  induction l; simpl; intros. discriminate. destruct (g a) eqn:E.
  - destruct (IHl g H) as (l1 & x & l2 & A & B & C). exists (a :: l1), x, l2. subst. simpl. rewrite E. auto.
  - exists [], a, l. auto.
Qed.
(* a property of all states of a run is one of its last *)
Lemma last_in : forall (l : trace) s g, forallb g l = true -> l = [] \/ exists x, g (x, fin s l) = true.
Proof.
  induction l as [| [x s1] l]; simpl; intros; auto. right. apply andb_prop in H. destruct H.
  destruct (IHl s1 g H0) as [->|]; auto. simpl. eauto.
Qed.

(* ---------------------------------------------------------------- the first backward *)

(* a run that takes a step backward has a first backward *)
Lemma first_bwd : forall l pol m hi s, run pol hi m s l -> lft (fin s l) < lft s ->
  exists l1 x l2 s1, l = (l1 ++ [(x, s1)]) ++ l2 /\ S (lft s1) = lft s /\
    core (fin s l1) = Some (lft s1) /\ pos s1 = None /\ core s1 = None.
Proof.
  induction l as [| [x s1] l]; simpl; intros; try lia. destruct H as (T & C & R).
  destruct (Nat.eq_dec (lft s1) (lft s)).
  - destruct (IHl pol m hi s1 R) as (l1 & x' & l2 & s2 & A & B & D & E). lia.
    exists ((x, s1) :: l1), x', l2, s2. subst. simpl. repeat split; try apply E; auto; lia.
  - exists [], x, l, s1. inversion T; subst; simpl in *; try lia. auto 8.
Qed.

(* by the first backward every step has run; the machine is idle then *)
Lemma first_backward : forall pol m a hi l, run pol hi m (init a hi) l -> lft (fin (init a hi) l) = a -> a < hi ->
  exists l1 l2, l = l1 ++ l2 /\ let s := fin (init a hi) l1 in
    lft s = hi - 1 /\ core s = None /\ pos s = None /\ room pol hi s <= m /\ hi - a <= ev a hi l1.
Proof.
  intros pol m a hi l R F Hk. destruct (first_bwd l pol m hi (init a hi) R) as (l1 & x & l2 & s1 & E & B1 & B3 & B4 &
    B5).
  { rewrite F. simpl. lia. }
  exists (l1 ++ [(x, s1)]), l2. split; auto. rewrite fin_app. simpl. rewrite E, run_app in R. destruct R as (R & _).
  rewrite run_app in R. destruct R as (R1 & R2). simpl in R2. simpl in B1. repeat split; auto; try lia; try tauto.
  rewrite ev_app. assert (I : Inv a hi (0 + ev a hi l1) (fin (init a hi) l1)) by (eapply Inv_run; eauto;
    apply Inv_init).
  destruct I as (_ & _ & C & D). destruct (D _ B3) as (D1 & D2). apply C in D1. simpl. lia.
Qed.

(* ---------------------------------------------------------------- the cut *)

(* step v is done, or what is stored from v on fits in m slots *)
Definition good pol m v hi (x : act * st) := (lft (snd x) <=? v) || (right_room pol v hi (snd x) <=? m).

(* a larger set has more outputs *)
Lemma output_le : forall (i j : set), (forall p, i p = true -> j p = true) -> forall q, output i q = true ->
  output j q = true.
Proof. intros. destruct q; simpl in *; auto. Qed.
(* a larger right part takes more slots *)
Lemma right_room_le : forall pol v hi s s', monotone pol ->
  (forall x, right_hid v hi (hid s) x = true -> right_hid v hi (hid s') x = true) ->
  (forall p, right_int v (int s) p = true -> right_int v (int s') p = true) ->
  right_room pol v hi s <= right_room pol v hi s'.
Proof.
  intros. unfold right_room. apply sumr_le. intros x _. unfold weight. apply H; auto. apply output_le; auto.
Qed.

(* keeping for itself what an internal state holds takes no slot *)
Lemma right_room_keep : forall pol u hi w c h i n q, sharing pol -> input_held pol = true ->
  available pol h i q = true ->
  right_room pol u hi (mk w c (add h q) i n) <= right_room pol u hi (mk w c h i n).
Proof.
  intros pol u hi w c h i n q S I A. unfold right_room. apply sumr_le. intros x _. simpl. unfold weight.
  destruct (Nat.eq_dec x q) as [->|N].
  2: { replace (right_hid u hi (add h q) x) with (right_hid u hi h x); auto. unfold right_hid, add.
       now rewrite (proj2 (Nat.eqb_neq x q)) by lia. }
  destruct (h q) eqn:E.
  { replace (right_hid u hi (add h q) q) with (right_hid u hi h q); auto. unfold right_hid,
    add. now rewrite Nat.eqb_refl, E. }
  destruct (le_lt_dec q u) as [L|L].
  { replace (right_hid u hi (add h q) q) with (right_hid u hi h q); auto. unfold right_hid.
    rewrite (proj2 (Nat.ltb_ge u q)) by lia. auto. }
  destruct (le_lt_dec hi q) as [L'|L'].
  { replace (right_hid u hi (add h q) q) with (right_hid u hi h q); auto. unfold right_hid.
    rewrite (proj2 (Nat.ltb_ge q hi)) by lia. now rewrite !andb_false_r. }
  assert (E1 : right_hid u hi (add h q) q = true).
  { unfold right_hid, add. rewrite Nat.eqb_refl, (proj2 (Nat.ltb_lt u q)), (proj2 (Nat.ltb_lt q hi)) by
    lia. apply orb_true_r. }
  assert (E2 : right_hid u hi h q = false) by (unfold right_hid;
    rewrite E, andb_false_r, (proj2 (Nat.eqb_neq q u)) by lia; auto).
  rewrite E1, E2. apply S; auto. apply available_cases in A. destruct A as [A|[(p & -> & A)|A]].
  - congruence.
  - simpl. unfold right_int at 1. rewrite A, (proj2 (Nat.leb_le u p)) by lia. auto.
  - unfold right_int at 2. rewrite A, (proj2 (Nat.leb_le u q)) by lia. apply orb_true_r.
Qed.

(* only a store makes what is stored above u weigh more, and then the machine is idle above u *)
Lemma just_stored : forall pol hi s x s1 u a v K, step pol hi s x s1 -> monotone pol -> sharing pol -> Inv a v K s ->
  right_room pol u hi s < right_room pol u hi s1 -> core s1 = None /\ exists q, pos s1 = Some q /\ u < q.
Proof.
  intros pol hi s x s1 u a v K T M Sh (_ & _ & _ & D) H.
  inversion T; subst; simpl in *; try (unfold right_room in H; simpl in H; exfalso; lia).
  - split; auto. exists q. split; auto. destruct (le_lt_dec q u) as [L|L]; auto. exfalso.
    refine (Nat.lt_irrefl _ (Nat.lt_le_trans _ _ _ H _)). apply (right_room_le pol u hi (mk None None (add h q) i 0)
      (mk None None h i 0)); auto.
    simpl. intros y. unfold right_hid, add. cases.
  - exfalso. pose proof (right_room_keep pol u hi w c h i n q Sh ltac:(auto) ltac:(auto)). lia.
  - destruct (D _ eq_refl) as (D1 & D2). subst. split; auto. exists (S p). split; auto.
    destruct (le_lt_dec u p) as [L|L]; [lia|]. exfalso.
    refine (Nat.lt_irrefl _ (Nat.lt_le_trans _ _ _ H _)). apply (right_room_le pol u hi (mk None None h (add i p) 0)
      (mk None None h i 0)); auto.
    simpl. intros y. unfold right_int, add. cases.
  - exfalso. refine (Nat.lt_irrefl _ (Nat.lt_le_trans _ _ _ H _)).
    apply (right_room_le pol u hi (mk None None h (del i p) 0) (mk None None h i 0)); auto.
    simpl. intros y. unfold right_int, del. cases.
  - exfalso. refine (Nat.lt_irrefl _ (Nat.lt_le_trans _ _ _ H _)).
    apply (right_room_le pol u hi (mk None None (del h q) i 0) (mk None None h i 0)); auto.
    simpl. intros y. unfold right_hid, del. cases.
  - exfalso. refine (Nat.lt_irrefl _ (Nat.lt_le_trans _ _ _ H _)).
    apply (right_room_le pol u hi (mk None None h (del i p) 0) (mk None None h i 0)); auto.
    simpl. intros y. unfold right_int, del. cases.
Qed.

(* what is stored from u on weighs no more in place than as the start of a part of its own *)
Lemma right_room_split : forall pol u hi s, fair pol -> u < hi ->
  right_room pol u hi s <= weigh pol true false (int s u) + sumr (weight pol (hid s) (int s)) (S u) (S hi).
Proof.
  intros pol u hi s (Z & M) Hu. unfold right_room. rewrite (sumr_at _ 0 u (S hi)) by lia.
  rewrite (sumr_zero _ 0 u).
  - assert (E : weight pol (right_hid u hi (hid s)) (right_int u (int s)) u = weigh pol true false (int s u)).
    { unfold weight, right_hid, right_int. rewrite Nat.eqb_refl, (proj2 (Nat.leb_le u u)) by lia. simpl. f_equal.
      destruct u; simpl; auto; cases. }
    rewrite E.
    assert (sumr (weight pol (right_hid u hi (hid s)) (right_int u (int s))) (S u) (S hi)
            <= sumr (weight pol (hid s) (int s)) (S u) (S hi)); [|lia].
    apply sumr_le. intros y Hy. unfold weight. apply M.
    + unfold right_hid. cases.
    + apply output_le. unfold right_int. intros p. cases.
    + unfold right_int. cases.
  - intros y Hy. unfold weight. rewrite <- Z. f_equal.
    + unfold right_hid. cases.
    + destruct y; simpl; auto. unfold right_int. cases.
    + unfold right_int. cases.
Qed.

(* at the start the right part is its own start *)
Lemma right_room_init : forall pol a v hi, fair pol -> a <= v < hi ->
  right_room pol v hi (init a hi) = weigh pol true false false.
Proof.
  intros pol a v hi (Z & M) Hv. unfold right_room. rewrite (sumr_at _ 0 v (S hi)) by lia.
  assert (E : forall y, y <> v -> weight pol (right_hid v hi (hid (init a hi))) (right_int v (int (init a hi))) y = 0).
  { intros y Hy. unfold weight, right_hid, right_int, init; simpl. rewrite <- Z. f_equal.
    - cases.
    - destruct y; simpl; auto. apply andb_false_r.
    - apply andb_false_r. }
  rewrite !sumr_zero by (intros; apply E; lia). simpl. rewrite Nat.add_0_r.
  unfold weight, right_hid, right_int, init; simpl. rewrite Nat.eqb_refl, andb_false_r. f_equal.
  destruct v; simpl; auto. apply andb_false_r.
Qed.

(* if what is stored above v always fits in m' slots, so does a schedule of the steps from v on *)
Lemma right_part : forall pol m m' a v hi l, fair pol -> weigh pol true false false <= m' -> a <= v < hi ->
  run pol hi m (init a hi) l -> lft (fin (init a hi) l) = a ->
  (forall x s, In (x, s) l -> v < lft s -> right_room pol v hi s <= m') ->
  exists l', run pol hi m' (init v hi) l' /\ lft (fin (init v hi) l') = v /\ ev v hi l' <= ev v hi l.
Proof.
  intros pol m m' a v hi l Fp W Hv R F Hall.
  apply (proj_right l pol v m m' hi (init a hi) (init v hi)); auto; try lia; simpl; try lia.
  - unfold Rt, init, right_hid, right_int; simpl. repeat split; auto.
    + intro y. cases.
    + intro y. rewrite andb_false_r. auto.
    + intros q Q _. inj. f_equal. lia.
  - rewrite right_room_init by auto. auto.
Qed.

(* The lowest v whose part fits in m' slots. If it is not the start, then at some instant, with the machine idle above v
   and every step below v run once, what is stored from v on takes all but a start's room. *)
Lemma where_it_fits : forall pol m m' a hi l, fair pol -> sharing pol -> weigh pol true false false <= m' -> a <= hi ->
  run pol hi m (init a hi) l -> lft (fin (init a hi) l) = a ->
  exists v, a <= v <= hi /\
    (forall x s, In (x, s) l -> v < lft s -> right_room pol v hi s <= m') /\
    (v = a \/ exists l1 l2, l = l1 ++ l2 /\ let s := fin (init a hi) l1 in
       a < v /\ core s = None /\ (exists q, pos s = Some q /\ v <= q) /\ v <= lft s /\ v - a <= ev a v l1 /\
       m' < right_room pol (v - 1) hi s /\
       sumr (weight pol (hid s) (int s)) 0 v + m' < weigh pol true false (int s (v - 1)) + m).
Proof.
  intros pol m m' a hi l Fp Sh W Hk R F. destruct Fp as (Z & M).
  assert (Lmax : forall l1 l2, l = l1 ++ l2 -> lft (fin (init a hi) l1) <= hi).
  { intros k1 k2 ->. rewrite run_app in R. destruct R as (R1 & _). apply lft_run in R1. exact R1. }
  destruct (lowest (hi - a) (fun v => forallb (good pol m' v hi) l) a) as (v & Hv & Hg & Hmin).
  { apply forallb_forall. intros [x s] I. apply in_split in I. destruct I as (k1 & k2 & E).
    unfold good. simpl. replace (a + (hi - a)) with hi by lia. apply orb_true_intro. left. apply Nat.leb_le.
    replace s with (fin (init a hi) (k1 ++ [(x, s)])) by (rewrite fin_app; auto).
    apply Lmax with k2. rewrite E, <- app_assoc. auto. }
  exists v. split; [lia|]. split.
  { intros x s I Hl. rewrite forallb_forall in Hg. apply Hg in I. unfold good in I; simpl in I.
    apply orb_prop in I. destruct I as [I|I]; apply Nat.leb_le in I; auto. lia. }
  destruct Hmin as [Hmin|(Hav & Hbad)]; auto. right.
  destruct (first_fail _ _ Hbad) as (k1 & [x s] & k2 & Ek & Hk1g & Hfail).
  assert (Ek' : l = (k1 ++ [(x, s)]) ++ k2) by (rewrite Ek, <- app_assoc; reflexivity).
  exists (k1 ++ [(x, s)]), k2. split; auto. rewrite fin_app. simpl.
  assert (Rk : run pol hi m (init a hi) (k1 ++ [(x, s)])) by (rewrite Ek', run_app in R; tauto).
  assert (I : forall v', Inv a v' (ev a v' (k1 ++ [(x, s)])) s).
  { intro v'. replace s with (fin (init a hi) (k1 ++ [(x, s)])) at 2 by (rewrite fin_app; auto).
    replace (ev a v' (k1 ++ [(x, s)])) with (0 + ev a v' (k1 ++ [(x, s)])) by lia. eapply Inv_run; eauto.
    apply Inv_init. }
  rewrite run_app in Rk. destruct Rk as (R1 & T & Cs & _).
  unfold good in Hfail; simpl in Hfail. apply orb_false_iff in Hfail. destruct Hfail as (Hl & Hc).
  apply Nat.leb_gt in Hl. apply Nat.leb_gt in Hc.
  (* before it there was room: so it has just stored a state at v or above *)
  assert (Hprev : right_room pol (v - 1) hi (fin (init a hi) k1) <= m').
  { destruct (last_in k1 (init a hi) _ Hk1g) as [->|(x' & E)].
    - change (fin (init a hi) []) with (init a hi). rewrite right_room_init; try lia. split; auto.
    - unfold good in E; simpl in E. apply orb_prop in E. destruct E as [E|E]; apply Nat.leb_le in E; auto.
      apply lft_step in T. lia. }
  assert (I0 : Inv a v (0 + ev a v k1) (fin (init a hi) k1)) by (eapply Inv_run; eauto; apply Inv_init).
  destruct (just_stored pol hi _ x s (v - 1) a v _ T M Sh I0 ltac:(lia)) as (HC & q & HP & Hq).
  pose proof (right_room_split pol (v - 1) hi s (conj Z M) ltac:(lia)) as Hs. replace (S (v - 1)) with v in Hs by lia.
  rewrite room_sumr in Cs. rewrite (sumr_split _ 0 v (S hi)) in Cs by lia.
  repeat split; auto; try lia.
  - exists q. split; auto. lia.
  - destruct (I v) as (_ & _ & B & _). apply B in HP. lia.
Qed.
(* that part is a schedule of its own *)
Lemma where_to_cut : forall pol m m' a hi l, fair pol -> sharing pol -> weigh pol true false false <= m' -> a <= hi ->
  run pol hi m (init a hi) l -> lft (fin (init a hi) l) = a ->
  exists v, a <= v <= hi /\
    (v < hi -> exists l', run pol hi m' (init v hi) l' /\ lft (fin (init v hi) l') = v /\ ev v hi l' <= ev v hi l) /\
    (v = a \/ exists l1 l2, l = l1 ++ l2 /\ let s := fin (init a hi) l1 in
       a < v /\ core s = None /\ (exists q, pos s = Some q /\ v <= q) /\ v <= lft s /\ v - a <= ev a v l1 /\
       m' < right_room pol (v - 1) hi s /\
       sumr (weight pol (hid s) (int s)) 0 v + m' < weigh pol true false (int s (v - 1)) + m).
Proof.
  intros pol m m' a hi l Fp Sh W Hk R F.
  destruct (where_it_fits pol m m' a hi l Fp Sh W Hk R F) as (v & Hv & Fits & Cut).
  exists v. repeat split; try lia; auto. intros Hlt. apply right_part with m a; auto; lia.
Qed.

(* at the last step there is nothing above to store but its internal state *)
Lemma right_room_last : forall pol hi s, fair pol -> 1 <= hi -> int s (hi - 1) = false -> int s hi = false ->
  right_room pol (hi - 1) hi s = weigh pol true false false.
Proof.
  intros pol hi s (Z & M) Hh H1 H2. unfold right_room. rewrite (sumr_at _ 0 (hi - 1) (S hi)) by lia.
  assert (E : forall y, y < hi - 1 \/ y = hi ->
    weight pol (right_hid (hi - 1) hi (hid s)) (right_int (hi - 1) (int s)) y = 0).
  { intros y Hy. unfold weight, right_hid, right_int. rewrite <- Z. f_equal.
    - cases.
    - destruct y; simpl; auto. cases. replace y with (hi - 1) by lia. auto.
    - destruct Hy as [Hy| ->]; [cases|]. rewrite H2. apply andb_false_r. }
  rewrite !sumr_zero by (intros; apply E; lia). simpl. rewrite Nat.add_0_r.
  unfold weight, right_hid, right_int. rewrite Nat.eqb_refl, H1, andb_false_r. f_equal.
  destruct (hi - 1) as [|u]; simpl; auto. cases.
Qed.

(* only steps below the last position have internal states *)
Definition Below hi s := (forall p, int s p = true -> p < hi) /\ (forall p, core s = Some p -> p < hi).
(* the same over a run *)
Lemma Below_run : forall l pol m hi s, Below hi s -> run pol hi m s l -> Below hi (fin s l).
Proof.
  induction l as [|[x s1] l IH]; simpl; intros pol m hi s B R; auto. destruct R as (T & _ & R). apply (IH pol m); auto.
  destruct B as (A & B). inversion T; subst; simpl in *; unfold Below; simpl; split; intros; inj; try discriminate;
    stored; auto.
Qed.

(* a policy without internal states has none stored *)
Lemma no_internal : forall l pol m hi s, internal_ok pol = false -> (forall p, int s p = false) -> run pol hi m s l ->
  forall p, int (fin s l) p = false.
Proof.
  induction l as [|[x s1] l IH]; simpl; intros pol m hi s O B R; auto. destruct R as (T & _ & R).
  apply (IH pol m hi); auto.
  inversion T; subst; simpl in *; auto; try congruence; intros p'; unfold del; cases.
Qed.

(* at any instant of a complete run: the frontier, and the start is there *)
Lemma at_instant : forall pol m a hi l l1 l2, run pol hi m (init a hi) l -> lft (fin (init a hi) l) = a ->
  l = l1 ++ l2 ->
  let s := fin (init a hi) l1 in
  (forall q, hid s q = true -> a <= q) /\ (forall p, int s p = true -> a <= p < hi) /\ run pol hi m s l2 /\
    lft (fin s l2) = a /\
  (a < lft s -> core s = None -> (forall q, pos s = Some q -> a < q) -> hid s a = true \/ int s a = true).
Proof.
  intros pol m a hi l l1 l2 R F ->. simpl. rewrite run_app in R. destruct R as (R1 & R2). rewrite fin_app in F.
  assert (I : Inv a hi (0 + ev a hi l1) (fin (init a hi) l1)) by (eapply Inv_run; eauto; apply Inv_init).
  repeat split; auto.
  - intros q Q. apply I in Q. lia.
  - destruct I as (_ & I & _). apply I in H. lia.
  - assert (B : Below hi (fin (init a hi) l1)).
    { apply (Below_run l1 pol m hi (init a hi)); auto. split; simpl; intros; inj; discriminate. }
    destruct B as (B & _). apply B. auto.
  - intros Hl Hc Hp. eapply stored_start; eauto.
Qed.
