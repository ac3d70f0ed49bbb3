(* The optimum does not depend on what recording a step costs: every schedule records each step, and an optimal one of
   each policy records it once. With them, for any price a of a forward and b >= a of a recorded one. *)
From Membptt Require Import Laws Projection Values Hsm Ism Shared.

(* a: a forward that is not recorded, b: one that is *)
Definition price a b l := a * (cost l - recorded l) + b * recorded l.

(* steps to do whose internal state is there *)
Definition there s := sumr (fun p => if int s p || is (core s) p then 1 else 0) 0 (lft s).

(* each step that is to go backward has its internal state there, or is recorded later *)
Lemma recorded_ge : forall l pol hi m s, run pol hi m s l -> lft s <= lft (fin s l) + there s + recorded (map fst l).
Proof.
  induction l as [|[x s1] l IH]; intros pol hi m s R; [simpl; lia|]. destruct R as (T & _ & R).
  specialize (IH pol hi m s1 R).
  change (fin s ((x, s1) :: l)) with (fin s1 l). change (map fst ((x, s1) :: l)) with (x :: map fst l).
  assert (K : lft s + there s1 + recorded (map fst l) <= lft s1 + there s + recorded (x :: map fst l)); [|lia].
  clear IH R. inversion T; subst; unfold there; simpl; try lia.
  - (* Record *) set (f := fun q => if i q || (p =? q) then 1 else 0).
    set (g := fun q => if i q || false then 1 else 0).
    assert (F : forall q, q <> p -> f q = g q) by (intros q Hq; unfold f, g; rewrite (proj2 (Nat.eqb_neq p q)) by lia;
      auto).
    destruct (le_lt_dec n p).
    + rewrite (sumr_ext f g) by (intros; apply F; lia). lia.
    + pose proof (sumr_change f g p 0 n ltac:(lia) F) as E.
      assert (f p <= 1) by (unfold f; destruct (i p || (p =? p)); lia). lia.
  - (* Backpropagate *) rewrite (sumr_at _ 0 p (S p)) by lia. rewrite (sumr_zero _ (S p) (S p)) by lia.
    simpl. rewrite Nat.eqb_refl, orb_true_r.
    assert (sumr (fun q => if i q || false then 1 else 0) 0 p <= sumr (fun q =>
      if i q || (p =? q) then 1 else 0) 0 p); [|lia].
    apply sumr_le. intros q _. destruct (i q), (p =? q); simpl; lia.
  - (* StoreInternal *) assert (sumr (fun q => if add i p q || false then 1 else 0) 0 n <= sumr (fun q => if i q || (p
      =? q) then 1 else 0) 0 n); [|lia].
    apply sumr_le. intros q _. unfold add. destruct (Nat.eqb_spec q p) as [->|]; [rewrite Nat.eqb_refl, orb_true_r;
      auto|].
    destruct (i q), (p =? q); simpl; lia.
  - (* LoadInternal *) assert (sumr (fun q => if del i p q || (p =? q) then 1 else 0) 0 n <= sumr (fun q => if i q ||
      false then 1 else 0) 0 n); [|lia].
    apply sumr_le. intros q _. unfold del. destruct (Nat.eqb_spec q p) as [->|]; [rewrite Nat.eqb_refl; simpl;
      rewrite H; auto|].
    rewrite (proj2 (Nat.eqb_neq p q)) by lia. destruct (i q); simpl; lia.
  - (* DropInternal *) assert (sumr (fun q => if del i p q || is c q then 1 else 0) 0 n <= sumr (fun q => if i q || is
      c q then 1 else 0) 0 n); [|lia].
    apply sumr_le. intros q _. unfold del. destruct (q =? p), (i q), (is c q); simpl; lia.
Qed.

(* every legal schedule records every step *)
Theorem each_step_recorded : forall pol m t l, legal pol m t l = true -> t <= recorded l.
Proof.
  intros pol m t l H. apply legal_run in H. destruct H as (r & <- & R & F). pose proof (recorded_ge r pol t m _ R) as Q.
  unfold there, init in Q. simpl in Q. rewrite sumr_zero in Q by auto. unfold init in F. lia.
Qed.
(* and takes each backward once, since only the next one can be *)
Theorem each_step_backward : forall pol m t l, legal pol m t l = true -> backpropagated l = t.
Proof.
  assert (B : forall r pol hi m s, run pol hi m s r -> lft s = lft (fin s r) + backpropagated (map fst r)).
  { induction r as [|[x s1] r IH]; simpl; intros pol hi m s R;
      [lia|]. destruct R as (T & _ & R). specialize (IH _ _ _ _ R).
    inversion T; subst; simpl in *; lia. }
  intros pol m t l H. apply legal_run in H. destruct H as (r & <- & R & F). apply B in R. rewrite F in R.
  unfold init in R. simpl in R. lia.
Qed.
(* a recorded forward is a forward *)
Lemma recorded_le_cost : forall l, recorded l <= cost l.
Proof.
  induction l as [|x l IH]; simpl; auto. destruct x; simpl; try lia.
  replace (match p with 0 => S p | S l0 => p - l0 end) with 1 by (destruct p; lia). lia.
Qed.

(* a bound on forwards is a bound on prices *)
Lemma price_least : forall a b c t l, a <= b -> t <= c -> c <= cost l -> t <= recorded l ->
  a * (c - t) + b * t <= price a b l.
Proof.
  intros a b c t l H1 H2 H3 H4. unfold price. pose proof (recorded_le_cost l) as H5.
  set (k := cost l) in *. set (n := recorded l) in *. replace b with (a + (b - a)) by lia. generalize (b - a). intro d.
  assert (a * (c - t) + a * t = a * c) by nia. assert (a * (k - n) + a * n = a * k) by nia. nia.
Qed.
(* the price of a schedule that records each step once *)
Lemma price_reached : forall a b l t, recorded l = t -> price a b l = a * (cost l - t) + b * t.
Proof. intros a b l t <-. reflexivity. Qed.

(* HSM, ISM and (10): at any prices, C(t, m) forwards of which t are recorded are optimal *)
Theorem hsm_any_price : forall a b t m, a <= b -> 1 <= m ->
  (exists l, complete HSM m t l = true /\ price a b l = a * (hsm t m - t) + b * t) /\
  (forall l, legal HSM m t l = true -> a * (hsm t m - t) + b * t <= price a b l).
Proof.
  intros a b t m Hab Hm. destruct (hsm_reached t m Hm) as (l & A & B & D). split.
  - exists l. split; auto. rewrite <- B. apply price_reached. auto.
  - intros l' H. apply price_least; auto. rewrite <- B, <- D. apply recorded_le_cost.
    apply hsm_lower_bound; auto. eapply each_step_recorded; eauto.
Qed.
(* ISM *)
Theorem ism_any_price : forall a b t m, a <= b -> 1 <= m ->
  (exists l, complete ISM (m - 1) t l = true /\ price a b l = a * (ism t m - t) + b * t) /\
  (forall l, legal ISM (m - 1) t l = true -> a * (ism t m - t) + b * t <= price a b l).
Proof.
  intros a b t m Hab Hm. destruct (ism_reached t m Hm) as (l & A & B & D). split.
  - exists l. split; auto. rewrite <- B. apply price_reached. auto.
  - intros l' H. apply price_least; auto. rewrite <- B, <- D. apply recorded_le_cost.
    apply ism_lower_bound; auto. eapply each_step_recorded; eauto.
Qed.
(* (10), whichever way shared tensors are charged *)
Theorem charged_any_price : forall alpha a b t m, 2 <= alpha -> a <= b -> 1 <= m ->
  (exists l, complete (CHARGED alpha) m t l = true /\ price a b l = a * (shared alpha t m - t) + b * t) /\
  (forall l, legal (SHARED alpha) m t l = true -> a * (shared alpha t m - t) + b * t <= price a b l).
Proof.
  intros alpha a b t m Ha Hab Hm. destruct (charged_reached alpha Ha t m Hm) as (l & A & B & D). split.
  - exists l. split; auto. rewrite <- B. apply price_reached. auto.
  - intros l' H. apply price_least; auto. rewrite <- B, <- D. apply recorded_le_cost.
    apply shared_lower_bound; auto. eapply each_step_recorded; eauto.
Qed.
