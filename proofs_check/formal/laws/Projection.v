(* What every lower bound needs, for any policy: what is reached was run to; a schedule is cut into a schedule of its
   first steps and one of its last steps; and where to cut. *)
From Membptt Require Import Laws.

(* a state that holds more weighs no less *)
Definition monotone pol := forall h o i h' o' i',
  (h = true -> h' = true) -> (o = true -> o' = true) -> (i = true -> i' = true) ->
    weigh pol h o i <= weigh pol h' o' i'.

(* what is in a set after an addition *)
Lemma add_true : forall f q x, add f q x = true -> x = q \/ f x = true.
Proof. unfold add; intros f q x. destruct (Nat.eqb_spec x q); auto. Qed.
(* what is in a set after a removal *)
Lemma del_true : forall f q x, del f q x = true -> x <> q /\ f x = true.
Proof. unfold del; intros f q x. destruct (Nat.eqb_spec x q); auto; discriminate. Qed.
(* what can be restored, by cases *)
Lemma available_cases : forall pol h i q, available pol h i q = true ->
  h q = true \/ (exists p, q = S p /\ i p = true) \/ i q = true.
Proof.
  unfold available; intros. apply orb_prop in H. destruct H as [H|H].
  - apply orb_prop in H. destruct H; auto. destruct q; simpl in H; try discriminate. eauto.
  - apply andb_prop in H. tauto.
Qed.
Ltac stored := repeat match goal with
  | H : add _ _ _ = true |- _ => apply add_true in H; destruct H; [subst|]
  | H : del _ _ _ = true |- _ => apply del_true in H; destruct H
  | H : available _ _ _ _ = true |- _ => apply available_cases in H; destruct H as [H|[(? & ? & H)|H]]; try subst
  end.

(* ---------------------------------------------------------------- the frontier *)

(* with K evaluations of the steps a .. v-1, nothing above position a + K was reached, capped at v *)
Definition Inv a v K s :=
  (forall q, hid s q = true -> a <= q /\ Nat.min q v <= a + K) /\
  (forall p, int s p = true -> a <= p /\ Nat.min (S p) v <= a + K) /\
  (forall q, pos s = Some q -> a <= q /\ Nat.min q v <= a + K) /\
  (forall p, core s = Some p -> pos s = Some (S p) /\ a <= p).

(* one action keeps the frontier *)
Lemma Inv_step : forall pol a v K hi s x s1, Inv a v K s -> step pol hi s x s1 -> Inv a v (K + evi a v x) s1.
Proof.
  intros pol a v K hi s x s1 (A & B & C & D) T; inversion T; subst; simpl in *; unfold Inv, evi; simpl;
    repeat split; intros; inj; try discriminate; stored; auto;
    try (match goal with H : ?f ?q = true |- _ => (apply A in H || apply B in H); lia end);
    try (specialize (C _ eq_refl); lia);
    try (destruct (D _ eq_refl) as (D1 & D2); subst; try specialize (C _ eq_refl); lia);
    try (match goal with H : _ = Some ?q |- _ => (apply C in H; lia) || (apply D in H; tauto) end);
    try exact (proj1 (D _ eq_refl)).
Qed.
(* so does a run *)
Lemma Inv_run : forall l pol a v K m hi s, Inv a v K s -> run pol hi m s l -> Inv a v (K + ev a v l) (fin s l).
Proof.
  induction l as [| [x s1] l]; simpl; intros. now rewrite Nat.add_0_r.
  destruct H0 as (A & _ & C). rewrite Nat.add_assoc. eapply IHl; eauto. eapply Inv_step; eauto.
Qed.
(* it holds at the start *)
Lemma Inv_init : forall a v hi, Inv a v 0 (init a hi).
Proof. unfold Inv, init; simpl; repeat split; intros; inj; try apply Nat.eqb_eq in H; try discriminate; lia. Qed.

(* ---------------------------------------------------------------- the start *)

(* position a is out of reach for good, and its step is still to go backward *)
Definition Above a s :=
  (forall q, hid s q = true -> a < q) /\ (forall p, int s p = true -> a < p) /\ (forall q, pos s = Some q -> a < q) /\
  (forall p, core s = Some p -> a < p) /\ a < lft s.
(* no action brings position a back *)
Lemma Above_step : forall pol a hi s x s1, Above a s -> step pol hi s x s1 -> Above a s1.
Proof.
  intros pol a hi s x s1 (A & B & C & D & E) T; inversion T; subst; simpl in *; unfold Above; simpl;
    repeat split; intros; inj; try discriminate; stored; auto;
    try (match goal with H : ?f ?q = true |- _ => (apply A in H || apply B in H); lia end);
    try (specialize (C _ eq_refl); lia); try (specialize (D _ eq_refl); lia).
Qed.
(* so its step never goes backward *)
Lemma Above_run : forall l pol a m hi s, Above a s -> run pol hi m s l -> a < lft (fin s l).
Proof.
  induction l as [| [x s1] l]; simpl; intros. apply H. destruct H0 as (A & _ & C).
  eapply IHl; [eapply Above_step|]; eauto.
Qed.
(* while the first step is still to do and the core is empty, its input is stored or is the working state *)
Lemma stored_start : forall l pol a v K m hi s, run pol hi m s l -> lft (fin s l) = a -> a < lft s -> Inv a v K s ->
  core s = None -> (forall q, pos s = Some q -> a < q) -> hid s a = true \/ int s a = true.
Proof.
  intros l pol a v K m hi s R F Hl I HC HP. destruct (hid s a) eqn:E1; auto. destruct (int s a) eqn:E2; auto. exfalso.
  assert (Above a s).
  { destruct I as (A & B & _). unfold Above. repeat split; auto.
    - intros q Q. destruct (Nat.eq_dec a q). subst; congruence. apply A in Q. lia.
    - intros q Q. destruct (Nat.eq_dec a q). subst; congruence. apply B in Q. lia.
    - rewrite HC. discriminate. }
  eapply Above_run in H; eauto. lia.
Qed.

(* ---------------------------------------------------------------- the first steps, up to v *)

Ltac tidy := simpl; repeat split; auto; try lia; intros; inj; auto; try lia; unfold add, del;
  repeat match goal with H : forall x, ?g x = _ |- context [?g _] => rewrite H end;
  cases; try (f_equal; lia).

(* s' is s as far as the steps below v are concerned *)
Definition Lt v s s' :=
  lft s' = Nat.min (lft s) v /\
  (forall x, hid s' x = (x <? v) && hid s x) /\
  (forall p, int s' p = (p <? v) && int s p) /\
  (forall q, pos s = Some q -> q < v -> pos s' = Some q) /\
  core s' = match core s with Some p => if p <? v then Some p else None | None => None end.

(* the left part takes no more slots *)
Lemma Lt_room : forall pol v hi s s', monotone pol -> Lt v s s' -> v <= hi -> room pol v s' <= room pol hi s.
Proof.
  intros pol v hi s s' M (_ & B & C & _) Hv. rewrite !room_sumr. rewrite (sumr_split _ 0 (S v) (S hi)) by lia.
  assert (sumr (weight pol (hid s') (int s')) 0 (S v) <= sumr (weight pol (hid s) (int s)) 0 (S v)); [|lia].
  apply sumr_le. intros x _. unfold weight. apply M.
  - rewrite B. intro H. apply andb_prop in H. tauto.
  - destruct x; simpl; auto. rewrite C. intro H. apply andb_prop in H. tauto.
  - rewrite C. intro H. apply andb_prop in H. tauto.
Qed.

(* a run of the steps up to hi holds a run of the steps up to v, with the same evaluations of them *)
Lemma proj_left : forall l pol v a m hi s s', monotone pol -> run pol hi m s l -> Lt v s s' -> a <= v <= hi ->
  exists l', run pol v m s' l' /\ Lt v (fin s l) (fin s' l') /\ ev a v l' = ev a v l.
Proof.
  induction l as [| [x s1] l]; intros pol v a m hi s s' M R L Hv.
  - exists []. simpl. auto.
  - destruct R as (T & C & R).
    assert (STEP : (exists x' s1', step pol v s' x' s1' /\ Lt v s1 s1' /\ evi a v x' = evi a v x) \/
                   (Lt v s1 s' /\ evi a v x = 0)).
    { destruct s' as [w' c' h' i' n']. destruct L as (L1 & L2 & L3 & L4 & L5). unfold Lt, evi.
      inversion T; subst; simpl in *; subst.
      - destruct (le_lt_dec v p).
        + right. tidy.
        + left. rewrite (L4 _ eq_refl) by lia. eexists (Advance p (Nat.min q v)), _.
          simpl. split; [constructor; lia|]. tidy.
      - destruct (le_lt_dec v p).
        + right. tidy.
        + left. rewrite (L4 _ eq_refl) by lia. eexists (Record p), _. simpl. split; [constructor; lia|]. tidy.
      - destruct (Nat.ltb_spec p v).
        + left. replace (Nat.min (S p) v) with (S p) by lia. eexists (Backpropagate p), _. simpl.
          split; [constructor|]. tidy.
        + right. tidy.
      - destruct (le_lt_dec v q).
        + right. tidy.
        + left. rewrite (L4 _ eq_refl) by lia. eexists (StoreHidden q), _. simpl.
          split; [constructor; auto; rewrite L2, H0; apply andb_false_r|]. tidy.
      - destruct (le_lt_dec v q).
        + right. tidy.
        + left. eexists (StoreHidden q), _. simpl. split; [apply Kee; auto; [|rewrite L2, H2;
            apply andb_false_r] | tidy].
          unfold available in *. rewrite L2, L3. rewrite (proj2 (Nat.ltb_lt q v)) by lia.
          destruct q; simpl in *; auto. rewrite L3, (proj2 (Nat.ltb_lt q v)) by lia. auto.
      - destruct (Nat.ltb_spec p v).
        + left. eexists (StoreInternal p), _. simpl. split; [constructor; auto; rewrite L3, H0; apply andb_false_r|].
          tidy.
        + right. tidy.
      - destruct (le_lt_dec v q).
        + right. tidy.
        + left. eexists (Restore q), _. simpl. split; [apply Res | tidy].
          unfold available in *. rewrite L2, L3. rewrite (proj2 (Nat.ltb_lt q v)) by lia.
          destruct q; simpl in *; auto. rewrite L3, (proj2 (Nat.ltb_lt q v)) by lia. auto.
      - destruct (le_lt_dec v p).
        + right. tidy.
        + left. eexists (LoadInternal p), _. simpl. split; [constructor; rewrite L3, H; cases|]. tidy.
      - destruct (le_lt_dec v q).
        + right. tidy.
        + left. eexists (DropHidden q), _. simpl. split; [apply DrH; auto; rewrite L2, H0; cases|]. tidy.
      - destruct (le_lt_dec v p).
        + right. tidy.
        + left. eexists (DropInternal p), _. simpl. split; [apply DrI; rewrite L3, H; cases|]. tidy. }
    destruct STEP as [(x' & s1' & T' & L' & E) | (L' & E)].
    + destruct (IHl pol v a m hi s1 s1' M R L' Hv) as (l' & R' & F' & E').
      exists ((x', s1') :: l'). simpl. repeat split; auto; try lia; try apply F'.
      pose proof (Lt_room pol v hi s1 s1' M L'). lia.
    + destruct (IHl pol v a m hi s1 s' M R L' Hv) as (l' & R' & F' & E').
      exists l'. simpl. repeat split; auto; try lia; apply F'.
Qed.

(* if nothing below v is stored but the start, the rest of a run does the steps below v from scratch *)
Lemma left_part : forall l pol v a m hi s, monotone pol -> run pol hi m s l -> a < v <= hi -> v <= lft s ->
  lft (fin s l) = a -> (forall x, x < v -> hid s x = (x =? a)) -> (forall p, p < v -> int s p = false) ->
  (forall q, pos s = Some q -> v <= q) -> core s = None ->
  exists l', run pol v m (init a v) l' /\ lft (fin (init a v) l') = a /\ ev a v l' = ev a v l.
Proof.
  intros l pol v a m hi s M R Hv Hl Hf HH HI HP HC.
  destruct (proj_left l pol v a m hi s (init a v) M R) as (l' & R' & F' & E'); try lia.
  - unfold Lt, init; simpl. repeat split.
    + lia.
    + intro x. destruct (Nat.ltb_spec x v). simpl. rewrite HH by auto. auto. simpl. apply Nat.eqb_neq. lia.
    + intro p. destruct (Nat.ltb_spec p v); simpl; auto. now rewrite HI.
    + intros q E Q. apply HP in E. lia.
    + now rewrite HC.
  - exists l'. repeat split; auto. destruct F' as (F & _). rewrite F, Hf. lia.
Qed.

(* ---------------------------------------------------------------- the last steps, from v on *)

(* what of the stored sets matters to the steps from v on, when state v is the start *)
Definition right_hid v hi (h : set) : set := fun x => (x =? v) || ((v <? x) && (x <? hi) && h x).
(* and of the internal states those from step v on *)
Definition right_int v (i : set) : set := fun p => (v <=? p) && i p.
(* the slots that they take *)
Definition right_room pol v hi s := sumr (weight pol (right_hid v hi (hid s)) (right_int v (int s))) 0 (S hi).

(* s' is s as far as the steps from v on are concerned, with state v stored *)
Definition Rt v hi s s' :=
  lft s' = lft s /\
  (forall x, hid s' x = right_hid v hi (hid s) x) /\
  (forall p, int s' p = right_int v (int s) p) /\
  (forall q, pos s = Some q -> q < hi -> pos s' = Some (Nat.max q v)) /\
  core s' = match core s with Some p => if v <=? p then Some p else None | None => None end.

(* equal sets, equal outputs *)
Lemma output_ext : forall i j, (forall p, i p = j p) -> forall q, output i q = output j q.
Proof. intros. destruct q; simpl; auto. Qed.
(* the slots of the right part *)
Lemma Rt_room : forall pol v hi s s', Rt v hi s s' -> room pol hi s' = right_room pol v hi s.
Proof.
  intros pol v hi s s' (_ & B & C & _). rewrite room_sumr. unfold right_room. apply sumr_ext. intros x _.
  unfold weight. rewrite B, C. now rewrite (output_ext _ _ C).
Qed.

(* if what is stored above v always leaves room, a run holds a run of the steps from v on, at no more evaluations *)
Lemma proj_right : forall l pol v m m' hi s s', run pol hi m s l -> Rt v hi s s' -> v < hi -> v < lft s ->
  lft (fin s l) <= v -> right_room pol v hi s <= m' ->
  (forall x s1, In (x, s1) l -> v < lft s1 -> right_room pol v hi s1 <= m') ->
  exists l', run pol hi m' s' l' /\ lft (fin s' l') = v /\ ev v hi l' <= ev v hi l.
Proof.
  induction l as [| [x s1] l]; intros pol v m m' hi s s' R L Hv Hl Hf Hr Hall.
  - simpl in Hf. lia.
  - destruct R as (T & C & R). simpl in Hf.
    assert (STEP : (exists x' s1', step pol hi s' x' s1' /\ Rt v hi s1 s1' /\
      evi v hi x' <= evi v hi x) \/ Rt v hi s1 s').
    { destruct s' as [w' c' h' i' n']. destruct L as (L1 & L2 & L3 & L4 & L5). unfold Rt, evi. clear Hall IHl Hr.
      unfold right_hid, right_int in *. inversion T; subst; simpl in *; subst.
      - destruct (le_lt_dec q v).
        + right. rewrite (L4 _ eq_refl) by lia. tidy.
        + left. rewrite (L4 _ eq_refl) by lia. eexists (Advance (Nat.max p v) q), _. simpl.
          split; [constructor; lia|]. tidy.
      - destruct (Nat.leb_spec v p).
        + left. rewrite (L4 _ eq_refl) by lia. replace (Nat.max p v) with p by lia.
          eexists (Record p), _. simpl. split; [constructor; lia|]. tidy.
        + right. rewrite (L4 _ eq_refl) by lia. tidy.
      - destruct (Nat.leb_spec v p); [|lia]. left. eexists (Backpropagate p), _. simpl. split; [constructor|]. tidy.
      - destruct (le_lt_dec q v); [right; tidy | destruct (le_lt_dec hi q); [right; tidy | left]].
        rewrite (L4 _ eq_refl) by lia. replace (Nat.max q v) with q by lia.
        eexists (StoreHidden q), _. simpl. split; [constructor; auto; rewrite L2, H0; cases|]. tidy.
      - destruct (le_lt_dec q v); [right; tidy | destruct (le_lt_dec hi q); [right; tidy | left]].
        eexists (StoreHidden q), _. simpl. split; [apply Kee; auto; [|rewrite L2, H2; cases] | tidy].
        unfold available in *. rewrite L2, L3. destruct q; [lia|]. simpl in *. rewrite L3.
        rewrite (proj2 (Nat.ltb_lt v (S q))), (proj2 (Nat.ltb_lt (S q) hi)), (proj2 (Nat.leb_le v q)),
          (proj2 (Nat.leb_le v (S q))) by lia.
        simpl. destruct (S q =? v); simpl; auto.
      - destruct (Nat.leb_spec v p); [left | right; tidy].
        eexists (StoreInternal p), _. simpl. split; [constructor; auto; rewrite L3, H0; cases|]. tidy.
      - destruct (le_lt_dec hi q); [right; tidy | left].
        eexists (Restore (Nat.max q v)), _. simpl. split; [apply Res | tidy].
        unfold available in *. destruct (le_lt_dec q v).
        + replace (Nat.max q v) with v by lia. rewrite L2, Nat.eqb_refl. auto.
        + replace (Nat.max q v) with q by lia. rewrite L2, L3.
          destruct q; [lia|]. simpl in *. rewrite L3.
          rewrite (proj2 (Nat.ltb_lt v (S q))), (proj2 (Nat.ltb_lt (S q) hi)), (proj2 (Nat.leb_le v q)),
            (proj2 (Nat.leb_le v (S q))) by lia.
          simpl. destruct (S q =? v); simpl; auto.
      - destruct (Nat.leb_spec v p); left.
        + eexists (LoadInternal p), _. simpl. split; [constructor; rewrite L3, H; cases|]. tidy.
        + eexists (Restore v), _. simpl. split; [apply Res; unfold available; rewrite L2, Nat.eqb_refl; auto|]. tidy.
      - destruct (le_lt_dec q v); [right; tidy | destruct (le_lt_dec hi q); [right; tidy | left]].
        eexists (DropHidden q), _. simpl. split; [apply DrH; auto; rewrite L2, H0; cases|]. tidy.
      - destruct (Nat.leb_spec v p); [left | right; tidy].
        eexists (DropInternal p), _. simpl. split; [apply DrI; rewrite L3, H; cases|]. tidy. }
    destruct (le_lt_dec (lft s1) v) as [Hd|Hd].
    + (* step v goes backward: stop *)
      pose proof (Rt_room pol v hi s s' L) as Er.
      destruct L as (L1 & L2 & L3 & L4 & L5). destruct s' as [w' c' h' i' n'].
      inversion T; subst; simpl in *; subst; try lia.
      assert (p = v) by lia. subst.
      exists [(Backpropagate v, mk None None h' i' v)]. simpl. repeat split; auto.
      * rewrite (proj2 (Nat.leb_le v v)) by lia. constructor.
      * unfold room in *. simpl in *. lia.
      * unfold evi; simpl; lia.
    + assert (Hr1 : right_room pol v hi s1 <= m') by (eapply Hall; [left; reflexivity | auto]).
      assert (Hall1 : forall x0 s2, In (x0, s2) l -> v < lft s2 -> right_room pol v hi s2 <= m') by (intros;
        eapply Hall; eauto; right; eauto).
      destruct STEP as [(x' & s1' & T' & L' & E) | L'].
      * destruct (IHl pol v m m' hi s1 s1' R L' Hv Hd Hf Hr1 Hall1) as (l' & R' & F' & E').
        exists ((x', s1') :: l'). simpl. repeat split; auto; try lia. rewrite (Rt_room pol v hi s1 s1' L'). lia.
      * destruct (IHl pol v m m' hi s1 s' R L' Hv Hd Hf Hr1 Hall1) as (l' & R' & F' & E').
        exists l'. simpl. repeat split; auto; try lia.
Qed.
