(* Hidden states in one tier whose writes and reads have prices (two tiers without fast slots): the least cost over all
   legal schedules, for all t, slots and prices. The induction is over cost minus one read for each arrival at the last
   position, which has no use there: a run of the first steps is then allowed to be the way to the others. *)
From Membptt Require Import Laws Policies Projection Cut Hsm.
From Membptt Require Export PricedCost.
From Membptt Require Import PricedLeft PricedRight PricedCut.

Section Priced.
Context {c : prices}.
Notation fw := (forward c). Notation w := (write c). Notation r := (read c).

(* the recurrence, one rule a term: plan m t k: k is the cost of some choices for t steps in m slots *)
Inductive plan : nat -> nat -> nat -> Prop :=
| p_none : forall m, plan m 0 0
| p_last : forall m t k, 1 <= m -> plan m t k -> plan m (S t) (fw * S t + (if t =? 0 then 0 else r) + k)
| p_cut : forall m y t k1 k2, 1 <= m -> 1 <= y < t -> plan (m - 1) (t - y) k2 -> plan m y k1 ->
    plan m t (fw * y + r + k1 + (w + k2)).

(* one more slot costs nothing *)
Lemma plan_more : forall m t k, plan m t k -> forall m', m <= m' -> plan m' t k.
Proof.
  induction 1; intros; constructor; auto; try lia. apply IHplan1. lia.
Qed.

(* at the start no internal state is stored *)
Lemma NI_init : forall a hi, NI (init a hi).
Proof. intros a hi p. reflexivity. Qed.
(* nor at the end of a run *)
Lemma NI_run : forall l m hi s, NI s -> run HSM hi m s l -> NI (fin s l).
Proof. induction l as [|[x s1] l IH]; simpl; intros; auto. destruct H0 as (T & _ & R). eapply IH; eauto.
eapply NI_step; eauto. Qed.
(* nor within it *)
Lemma NI_in : forall l m hi s, NI s -> run HSM hi m s l -> forall x s1, In (x, s1) l -> NI s1.
Proof.
  induction l as [|[y s0] l IH]; simpl; intros; [contradiction|]. destruct H0 as (T & _ & R).
  pose proof (NI_step _ _ _ _ H T). destruct H1 as [E|E]; [injection E as <- <-; auto | eauto].
Qed.
(* what is stored was put there *)
Lemma was_stored : forall l m hi s v, run HSM hi m s l -> hid s v = false -> hid (fin s l) v = true ->
  1 <= tot (stv v) l.
Proof.
  induction l as [|[x s1] l IH]; simpl; intros. { congruence. } destruct H as (T & _ & R).
  destruct (hid s1 v) eqn:E; [|specialize (IH _ _ _ _ R E H1); lia].
  assert (stv v x = 1); [|lia]. inversion T; subst; simpl in *; try congruence; try discriminate;
    unfold add, del in E; destruct (Nat.eqb_spec v q); try congruence; subst; now rewrite ?Nat.eqb_refl.
Qed.

(* one step: an arrival at its end is in vain *)
Lemma one_step : forall a m l, run HSM (S a) m (init a (S a)) l -> lft (fin (init a (S a)) l) = a ->
  fw + r * tot (ps (S a)) l <= tot pr l.
Proof.
  intros a m l R F.
  destruct (first_backward HSM m a (S a) l R F ltac:(lia)) as (l1 & l2 & El & _ & _ & _ & _ & B5).
  pose proof (left_pays l a (S a)) as LP. pose proof (parts_run l m (S a) (init a (S a)) (S a) (NI_init _ _) R) as PR.
  pose proof (segments l m (S a) (init a (S a)) (S a) (NI_init _ _) R) as SG.
  pose proof (backs l m (S a) (init a (S a)) (S a) R ltac:(simpl; lia) ltac:(lia)) as BK.
  unfold low at 2 in SG. simpl in SG. rewrite (proj2 (Nat.ltb_lt a (S a))) in SG by lia.
  assert (1 <= ev a (S a) l) by (rewrite El, ev_app; lia).
  assert (fw * 1 <= fw * ev a (S a) l) by (apply Nat.mul_le_mono_l; auto).
  assert (r * tot (ps (S a)) l <= r * tot (lres (S a)) l) by (apply Nat.mul_le_mono_l; lia). lia.
Qed.

(* the two parts of a schedule, and what they cost together *)
Lemma compose : forall a v hi m m' l l1 l2, run HSM hi m (init a hi) l -> lft (fin (init a hi) l) = a -> l = l1 ++ l2 ->
  a < v < hi -> 1 <= m' -> (forall x s, In (x, s) l -> v < lft s -> right_room HSM v hi s <= m') ->
  let s := fin (init a hi) l1 in
  core s = None -> (forall q, pos s = Some q -> v <= q) -> v <= lft s -> v - a <= ev a v l1 ->
  (forall x, x < v -> hid s x = (x =? a)) ->
  exists l3 l4, run HSM v m (init a v) l3 /\ lft (fin (init a v) l3) = a /\
    run HSM hi m' (init v hi) l4 /\ lft (fin (init v hi) l4) = v /\
    fw * (v - a) + r + tot pr l3 + w * tot (stv v) l + tot pr l4 + r * tot (ps hi) l
    <= tot pr l + r * tot (ps v) l3 + r * tot (ps hi) l4.
Proof.
  intros a v hi m m' l l1 l2 R F El Hv Hm Hall s HC HP Hl He HH.
  pose proof R as R0. rewrite El, run_app in R0. destruct R0 as (R1 & R2). fold s in R2.
  assert (F2 : lft (fin s l2) = a) by (unfold s; rewrite <- fin_app, <- El; auto).
  destruct (left_virgin l2 v a m hi s) as (l3 & A1 & A2 & A3 & A4); auto; try lia.
  { unfold s. apply (NI_run l1 m hi); auto. apply NI_init. }
  { intros p Q. rewrite HC in Q. discriminate. }
  destruct (right_run l true v m m' hi (init a hi) (init v hi)) as (l4 & B1 & B2 & B3); auto; try (simpl; lia).
  { apply NI_init. }
  { unfold rel, init, right_hid. simpl. repeat split; auto; intros; inj; try discriminate; try lia.
    - cases.
    - apply Nat.eqb_neq. lia. }
  { rewrite right_room_init; try lia; [simpl; lia | apply HSM_fair]. }
  exists l3, l4. repeat split; auto.
  pose proof (left_pays l1 a v) as LP. pose proof (parts_run l m hi (init a hi) v (NI_init _ _) R) as PR.
  pose proof (segments l1 m hi (init a hi) v (NI_init _ _) R1) as SG.
  unfold low at 2 in SG. simpl in SG. rewrite (proj2 (Nat.ltb_lt a v)) in SG by lia.
  assert (E1 : tot (lc v) l = tot (lc v) l1 + tot (lc v) l2) by (rewrite El; apply tot_app).
  assert (E2 : tot (ps v) l = tot (ps v) l1 + tot (ps v) l2) by (rewrite El; apply tot_app).
  rewrite E2 in B3. rewrite E1 in PR.
  assert (r * tot (ps v) l1 <= r * (tot (lres v) l1 + 1)) by (apply Nat.mul_le_mono_l; lia).
  assert (fw * (v - a) <= fw * ev a v l1) by (apply Nat.mul_le_mono_l; auto).
  assert (r * tot (ps v) l2 <= r * tot (ps v) l3) by (apply Nat.mul_le_mono_l; auto).
  rewrite !Nat.mul_add_distr_l in *. lia.
Qed.

(* stored at a and at most one slot in use below v: nothing else is stored below v *)
Lemma only_start : forall s a v, a < v -> hid s a = true -> sumr (weight HSM (hid s) (int s)) 0 v <= 1 ->
  forall x, x < v -> hid s x = (x =? a).
Proof.
  intros s a v Hv Ha Hs x Hx. destruct (Nat.eqb_spec x a) as [->|N]; auto. destruct (hid s x) eqn:E; auto. exfalso.
  pose proof (sumr_ge2 (weight HSM (hid s) (int s)) 0 a x v ltac:(lia) ltac:(lia) ltac:(lia)) as G.
  unfold weight in G at 1 2. simpl in G. rewrite Ha, E in G. lia.
Qed.
(* what the right part weighs *)
Lemma right_room_is : forall v hi s, v < hi ->
  right_room HSM v hi s = 1 + sumr (fun x => if (x <? hi) && hid s x then 1 else 0) (S v) (S hi).
Proof.
  intros v hi s Hv. unfold right_room. rewrite (sumr_at _ 0 v (S hi)) by lia. rewrite sumr_zero.
  - unfold weight at 1, right_hid. simpl. rewrite Nat.eqb_refl. simpl. f_equal. apply sumr_ext. intros x Hx.
    unfold weight, right_hid. simpl. rewrite (proj2 (Nat.eqb_neq x v)), (proj2 (Nat.ltb_lt v x)) by lia. auto.
  - intros x Hx. unfold weight, right_hid. simpl. rewrite (proj2 (Nat.eqb_neq x v)), (proj2 (Nat.ltb_ge v x)) by lia.
    auto.
Qed.

(* neat throughout, neat at the end *)
Lemma neat_fin : forall l s, neat s -> (forall x s1, In (x, s1) l -> neat s1) -> neat (fin s l).
Proof. induction l as [|[x s1] l IH]; simpl; intros; auto. apply IH; eauto. Qed.
(* the last state is one of the run's *)
Lemma fin_in : forall (l : trace) s, l = [] \/ exists x, In (x, fin s l) l.
Proof. induction l as [|[x s1] l IH]; simpl; intros; auto. right. destruct (IH s1) as [->|(y & H)]; simpl; eauto. Qed.

(* no run costs less than some plan and a read for each pass at the end *)
Theorem priced_lower : forall m, 1 <= m -> forall k a l, 1 <= k ->
  run HSM (a + k) m (init a (a + k)) l -> lft (fin (init a (a + k)) l) = a ->
  exists p, plan m k p /\ p + r * tot (ps (a + k)) l <= tot pr l.
Proof.
  pose proof HSM_fair as Fp.
  induction m as [|m' IHm]; intros Hm k; [lia|]. set (m := S m') in *.
  induction k as [k IHk] using lt_wf_ind. intros a l0 Hk R0 F0. remember (a + k) as hi eqn:Ehi.
  (* drop what no step needs *)
  assert (C0 : Cl false (init a hi) (init a hi)).
  { unfold Cl, init. simpl. repeat split; auto; intros; try discriminate. destruct (Nat.eqb_spec x a); auto.
    subst x. rewrite (proj2 (Nat.ltb_lt a hi)) by lia. auto. }
  assert (Rm : room HSM hi (init a hi) <= m).
  { rewrite room_sumr, (sumr_at _ 0 a (S hi)) by lia. rewrite !sumr_zero.
    - unfold weight, init. simpl. rewrite Nat.eqb_refl. unfold m. lia.
    - intros x Hx. unfold weight, init. simpl. rewrite (proj2 (Nat.eqb_neq x a)) by lia. auto.
    - intros x Hx. unfold weight, init. simpl. rewrite (proj2 (Nat.eqb_neq x a)) by lia. auto. }
  destruct (clean l0 false m hi (init a hi) (init a hi) (NI_init _ _) R0 C0 Rm) as (l & lost & R & CF & Nt & E0).
  assert (F : lft (fin (init a hi) l) = a) by (destruct CF as (CF & _); lia).
  unfold cr in E0. rewrite Nat.add_0_r in E0.
  cut (exists p, plan m k p /\ p + r * tot (ps hi) l <= tot pr l).
  { intros (p & P1 & P2). exists p. split; auto. lia. }
  clear l0 R0 F0 C0 Rm CF E0 lost.
  destruct (Nat.eq_dec k 1) as [->|Hk1].
  { exists (fw * 1 + 0 + 0). split. { apply (p_last m 0 0); [unfold m; lia | constructor]. }
    assert (hi = S a) by lia. subst hi. rewrite H in *. pose proof (one_step a m l R F). lia. }
  assert (L1 : forall v l3, a < v < hi -> run HSM v m (init a v) l3 -> lft (fin (init a v) l3) = a ->
    exists p, plan m (v - a) p /\ p + r * tot (ps v) l3 <= tot pr l3).
  { intros v l3 Hv R3 F3. assert (Ev : v = a + (v - a)) by lia. rewrite Ev in R3, F3 |- *.
    replace (a + (v - a) - a) with (v - a) by lia. apply IHk; auto; lia. }
  destruct (Nat.eq_dec m' 0) as [Hm1|Hm1].
  { (* one slot *)
    set (v := hi - 1).
    destruct (first_bwd l HSM m hi (init a hi) R) as (k1 & x & l2 & s1 & El & B1 & B2 & B3 & B4).
    { rewrite F. simpl. lia. }
    simpl in B1. pose proof R as R1. rewrite El, run_app in R1. destruct R1 as (R1 & _). pose proof R1 as R2.
    rewrite run_app in R2. destruct R2 as (R2 & _ & C1 & _).
    assert (Fs : fin (init a hi) (k1 ++ [(x, s1)]) = s1) by (rewrite fin_app; reflexivity).
    assert (Ev : v - a <= ev a v (k1 ++ [(x, s1)])).
    { rewrite ev_app. assert (IV : Inv a v (0 + ev a v k1) (fin (init a hi) k1)) by (eapply Inv_run; eauto;
        apply Inv_init).
      destruct IV as (_ & _ & C & D). destruct (D _ B2) as (D1 & D2). apply C in D1. unfold v in *. lia. }
    destruct (at_instant HSM m a hi l (k1 ++ [(x, s1)]) l2 R F El) as (_ & _ & _ & _ & St). rewrite Fs in St.
    assert (NS : NI s1). { rewrite <- Fs. exact (NI_run _ m hi _ (NI_init _ _) R1). }
    assert (Ha : hid s1 a = true).
    { destruct St as [A|A]; auto; try lia. { intros q Q. rewrite B3 in Q. discriminate. } rewrite NS in A.
        discriminate. }
    destruct (compose a v hi m 1 l (k1 ++ [(x, s1)]) l2 R F El) as (l3 & l4 & A1 & A2 & A3 & A4 & A5); try (unfold v;
      lia).
    { intros y s2 Q _. assert (N2 : NI s2) by exact (NI_in l m hi (init a hi) (NI_init _ _) R y s2 Q). unfold v.
      rewrite right_room_last; auto; lia. }
    { now rewrite Fs. }
    { rewrite Fs, B3. discriminate. }
    { rewrite Fs. unfold v. lia. }
    { auto. }
    { rewrite Fs. apply only_start; auto; [unfold v; lia|].
      rewrite room_sumr, (sumr_split _ 0 v (S hi)) in C1 by (unfold v; lia). unfold m in C1. lia. }
    destruct (L1 v l3 ltac:(unfold v; lia) A1 A2) as (p1 & P1 & P2).
    assert (Eh : hi = S v) by (unfold v; lia).
    assert (O : fw + r * tot (ps hi) l4 <= tot pr l4).
    { rewrite Eh in A3, A4 |- *. apply (one_step v 1); auto. }
    exists (fw * S (k - 1) + (if k - 1 =? 0 then 0 else r) + p1). split.
    - replace k with (S (k - 1)) at 1 by lia. apply p_last; [unfold m; lia|].
      replace (k - 1) with (v - a) by (unfold v; lia). auto.
    - rewrite (proj2 (Nat.eqb_neq (k - 1) 0)) by lia. replace (v - a) with (k - 1) in A5 by (unfold v; lia).
      rewrite Nat.mul_succ_r. lia. }
  destruct (where_it_fits HSM m m' a hi l Fp) as (v & Hv & Hall & Cut); auto; try discriminate; try (simpl; lia);
    try lia.
  destruct Cut as [->|(k1 & k2 & Ek & Hav & HC & (q & HP & Hq) & Hl & Hev & Hbad & Hsum)].
  { (* one slot is never needed *)
    destruct (right_run l false a m m' hi (init a hi) (init a hi)) as (l4 & B1 & B2 & B3); auto; try (simpl; lia).
    { apply NI_init. }
    { unfold rel, init, right_hid. simpl. repeat split; auto; intros; inj; try discriminate. cases. }
    { rewrite right_room_init; try lia; auto. simpl. lia. }
    rewrite Ehi in B1, B2. destruct (IHm ltac:(lia) k a l4 ltac:(lia) B1 B2) as (p & P1 & P2). rewrite <- Ehi in P2.
    exists p. split. { apply plan_more with m'; auto. unfold m. lia. }
    pose proof (left_pays l a a) as LP. pose proof (parts_run l m hi (init a hi) a (NI_init _ _) R) as PR.
    pose proof (segments l m hi (init a hi) a (NI_init _ _) R) as SG.
    unfold low at 2 in SG. simpl in SG. rewrite Nat.ltb_irrefl in SG.
    assert (r * tot (ps a) l <= r * tot (lres a) l) by (apply Nat.mul_le_mono_l; lia). lia. }
  set (s := fin (init a hi) k1) in *.
  pose proof R as R1. rewrite Ek, run_app in R1. destruct R1 as (R1 & _).
  assert (NS : NI s) by exact (NI_run _ m hi _ (NI_init _ _) R1).
  assert (Ns : neat s).
  { apply neat_fin. { unfold neat, init. simpl. intros y Y. apply Nat.eqb_eq in Y. lia. }
    intros x s1 Q. apply (Nt x). rewrite Ek. apply in_or_app. auto. }
  assert (Hvhi : v < hi).
  { destruct (Nat.eq_dec v hi); [|lia]. subst v. rewrite right_room_last in Hbad; auto; try lia. simpl in Hbad. lia. }
  assert (Hbig : m' < 1 + ((if hid s v then 1 else 0) + sumr (fun x =>
    if (x <? hi) && hid s x then 1 else 0) (S v) (S hi))).
  { rewrite right_room_is in Hbad by lia. replace (S (v - 1)) with v in Hbad by lia.
    rewrite (sumr_split _ v (S v) (S hi)), sumr_one in Hbad by lia. rewrite (proj2 (Nat.ltb_lt v hi)) in Hbad by lia.
    auto. }
  assert (Hlt : v < lft s).
  { destruct (Nat.eq_dec v (lft s)); [|lia]. exfalso.
    assert (Z : forall x, v <= x -> hid s x = false).
    { intros x Hx. destruct (hid s x) eqn:E; auto. apply Ns in E. lia. }
    rewrite Z, sumr_zero in Hbig by (intros; rewrite ?Z; try lia; now rewrite andb_false_r). lia. }
  assert (Hs : right_room HSM v hi s <= m').
  { destruct (fin_in k1 (init a hi)) as [->|(x & Q)].
    - exfalso. unfold s in HP. simpl in HP. inj. lia.
    - apply (Hall x); auto. rewrite Ek. apply in_or_app. auto. }
  assert (Hst : hid s v = true).
  { destruct (hid s v) eqn:E; auto. rewrite right_room_is in Hs by lia. lia. }
  assert (SV : 1 <= tot (stv v) l).
  { rewrite Ek, tot_app. assert (1 <= tot (stv v) k1); [|lia]. eapply was_stored;
    eauto. simpl. apply Nat.eqb_neq. lia. }
  destruct (at_instant HSM m a hi l k1 k2 R F Ek) as (_ & _ & _ & _ & St). fold s in St.
  assert (Ha : hid s a = true).
  { destruct St as [A|A]; auto; try lia. { intros y Q. rewrite HP in Q. inj. lia. } rewrite NS in A. discriminate. }
  destruct (compose a v hi m m' l k1 k2 R F Ek) as (l3 & l4 & A1 & A2 & A3 & A4 & A5); auto; try lia.
  { fold s. intros y Q. rewrite HP in Q. inj. lia. }
  { fold s. apply only_start; auto. simpl in Hsum. unfold m in Hsum. lia. }
  destruct (L1 v l3 ltac:(lia) A1 A2) as (p1 & P1 & P2).
  assert (R4 : exists p, plan m' (hi - v) p /\ p + r * tot (ps hi) l4 <= tot pr l4).
  { assert (Eh : hi = v + (hi - v)) by lia. rewrite Eh in A3, A4 |- *.
    replace (v + (hi - v) - v) with (hi - v) by lia. apply IHm; auto; lia. }
  destruct R4 as (p2 & P3 & P4).
  exists (fw * (v - a) + r + p1 + (w + p2)). split.
  - apply p_cut; [unfold m; lia | lia | | exact P1].
    replace (m - 1) with m' by (unfold m; lia). replace (k - (v - a)) with (hi - v) by lia. exact P3.
  - assert (w * 1 <= w * tot (stv v) l) by (apply Nat.mul_le_mono_l; auto). lia.
Qed.
End Priced.
