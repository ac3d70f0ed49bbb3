(* Every plan is carried out by a complete schedule at its cost, for all t, slots and prices. *)
From Membptt Require Import Counting Tiers.

(* t steps from a can start: a is the working state, stored in tier x alone, nothing is stored above, and beside what is
   stored there is room for m slots, the start's own included *)
Definition Ready hi (M : slots) a x (m : slots) t s :=
  lft s = a + t /\ a + t <= hi /\ (1 <= t -> pos s = Some a) /\ core s = None /\
  held s x a = true /\ held s (other x) a = false /\ (forall y z, a < z -> held s y z = false) /\
  (forall y, count hi (held s) y + m y <= M y + (if teq y x then 1 else 0)).

(* m slots are enough to do any t steps at cost k, to drop the start, and to leave everything else as it was *)
Definition Solves c x m t k := forall hi M a s, Ready hi M a x m t s ->
  exists l s1, execute hi M s l = Some s1 /\ core s1 = None /\ lft s1 = a /\ cost c l = k /\
    (forall y z, z <> a -> held s1 y z = held s y z) /\ (forall y, held s1 y a = false).

(* a state with the same sets fits, if the start has its slot *)
Lemma ready_fits : forall hi M a x m t s w k n, Ready hi M a x m t s -> 1 <= m x ->
  fits hi M (mk w k (held s) n) = true.
Proof.
  intros hi M a x m t s w k n (_ & _ & _ & _ & _ & _ & _ & H) W. apply fits_all. simpl. intros y. specialize (H y).
  destruct (teq y x) eqn:T; [apply teq_true in T; subst|]; lia.
Qed.

(* no steps: drop the start *)
Lemma solve_none : forall c x m, Solves c x m 0 0.
Proof.
  intros c x m hi M a [w k h n] (A & B & C & D & E & F & G & H). simpl in *. subst.
  exists [Drop x a], (mk w None (upd h x a false) (a + 0)). simpl. rewrite E. simpl.
  rewrite fits_all. 2: { simpl. intros y. specialize (H y). destruct (teq y x) eqn:T.
    - apply teq_true in T. subst y. pose proof (count_del hi h x a ltac:(lia) E). lia.
    - rewrite count_other by auto. lia. }
  repeat split; auto; try lia.
  - intros y z Hz. unfold upd. rewrite (proj2 (Nat.eqb_neq z a)) by lia. now rewrite andb_false_r.
  - intros y. unfold upd. rewrite Nat.eqb_refl, andb_true_r. destruct x, y; simpl in *; auto.
Qed.

(* store nothing: run to the last step, record it, backward, and go back to the start *)
Lemma solve_last : forall c x m t k, 1 <= m x -> Solves c x m t k ->
  Solves c x m (S t) (forward c * S t + (if t =? 0 then 0 else rd c x) + k).
Proof.
  intros c x m t k W IH hi M a s R. pose proof (fun w k n => ready_fits hi M a x m (S t) s w k n R W) as FIT.
  destruct R as (A & B & C & D & E & F & G & H). destruct s as [w q h n]. simpl in *. subst.
  destruct (IH hi M a (mk (if t =? 0 then None else Some a) None h (a + t))) as (l & s1 & L1 & L2 & L3 & L4 & L5 & L6).
  { repeat split; simpl; auto; try lia. intros. now rewrite (proj2 (Nat.eqb_neq t 0)) by lia. }
  simpl in L5. rewrite C by lia. destruct (Nat.eqb_spec t 0) as [->|N].
  - exists (Record a :: Backpropagate a :: l), s1. simpl. unfold guard, idle. simpl.
    rewrite Nat.eqb_refl, (proj2 (Nat.ltb_lt a hi)) by lia. simpl. rewrite FIT. unfold guard. simpl.
    rewrite !Nat.eqb_refl, (proj2 (Nat.eqb_eq (a + 1) (S a))) by lia. simpl. rewrite FIT.
    replace (a + 0) with a in L1 by lia. rewrite L1. repeat split; auto. lia.
  - exists (Advance a (a + t) :: Record (a + t) :: Backpropagate (a + t) :: Restore x a :: l), s1. simpl.
    unfold guard, idle. simpl.
    rewrite Nat.eqb_refl, (proj2 (Nat.ltb_lt a (a + t))), (proj2 (Nat.leb_le (a + t) hi)) by lia. simpl. rewrite FIT.
    simpl.
    unfold guard, idle. simpl. rewrite Nat.eqb_refl, (proj2 (Nat.ltb_lt (a + t) hi)) by lia. simpl. rewrite FIT. simpl.
    unfold guard. simpl. rewrite Nat.eqb_refl, (proj2 (Nat.eqb_eq (a + S t) (S (a + t)))) by lia. simpl. rewrite FIT.
    simpl.
    rewrite E. simpl. rewrite FIT, L1. repeat split; auto. rewrite L4. replace (a + t - a) with t by lia. lia.
Qed.

(* move the start to the other tier *)
Lemma solve_move : forall c x m t k, 1 <= t -> 1 <= m x -> 1 <= m (other x) -> Solves c (other x) m t k ->
  Solves c x m t (wr c (other x) + k).
Proof.
  intros c x m t k N W W' IH hi M a s R. destruct R as (A & B & C & D & E & F & G & H).
  destruct s as [w q h n]. simpl in *. rewrite C in * by auto. subst.
  set (h1 := upd h (other x) a true). set (h2 := upd h1 x a false).
  destruct (teq_other x) as (T1 & T2).
  assert (C1 : forall y, count hi h1 y = count hi h y + (if teq y (other x) then 1 else 0)).
  { intros y. unfold h1. destruct (teq y (other x)) eqn:T; [apply teq_true in T; subst y|].
    - rewrite count_add by (auto; lia). lia.
    - rewrite count_other by auto. lia. }
  assert (E1 : h1 x a = true) by (unfold h1, upd; rewrite T2; auto).
  assert (C2 : forall y, count hi h2 y + (if teq y x then 1 else 0) = count hi h1 y).
  { intros y. unfold h2. destruct (teq y x) eqn:T; [apply teq_true in T; subst y|].
    - pose proof (count_del hi h1 x a ltac:(lia) E1). lia.
    - rewrite count_other by auto. lia. }
  assert (F1 : forall w k n, fits hi M (mk w k h1 n) = true).
  { intros. apply fits_all. simpl. intros y. rewrite C1. specialize (H y).
    destruct x, y; simpl in *; lia. }
  assert (F2 : forall w k n, fits hi M (mk w k h2 n) = true).
  { intros. apply fits_all. simpl. intros y. specialize (C2 y). rewrite C1 in C2. specialize (H y).
    destruct x, y; simpl in *; lia. }
  destruct (IH hi M a (mk (Some a) None h2 (a + t))) as (l & s1 & L1 & L2 & L3 & L4 & L5 & L6).
  { repeat split; simpl; auto; try lia.
    - unfold h2, h1, upd. rewrite T1, teq_refl, Nat.eqb_refl. auto.
    - destruct x; simpl; unfold h2, h1, upd; simpl; now rewrite Nat.eqb_refl.
    - intros y z Hz. unfold h2, h1, upd. rewrite (proj2 (Nat.eqb_neq z a)), !andb_false_r by lia. auto.
    - intros y. specialize (C2 y). rewrite C1 in C2. specialize (H y). destruct x, y; simpl in *; lia. }
  exists (Store (other x) a :: Drop x a :: l), s1. simpl. unfold guard, idle. simpl.
  rewrite Nat.eqb_refl, F. simpl. fold h1. rewrite F1. unfold guard. simpl. rewrite E1. fold h2. rewrite F2, L1.
  repeat split; auto.
  intros y z Hz. rewrite L5 by auto. simpl. unfold h2, h1, upd.
  rewrite (proj2 (Nat.eqb_neq z a)), !andb_false_r by lia. auto.
Qed.

(* run y steps, store the state there in tier x', do the right part, go back, do the left part *)
Lemma solve_cut : forall c x m x' y t k1 k2, 1 <= m x -> 1 <= y < t -> 1 <= less m x x' ->
  Solves c x' (less m x) (t - y) k2 -> Solves c x m y k1 ->
  Solves c x m t (forward c * y + rd c x + k1 + (wr c x' + k2)).
Proof.
  intros c x m x' y t k1 k2 W Hy W' IR IL hi M a s R.
  pose proof (fun w k n => ready_fits hi M a x m t s w k n R W) as FIT.
  destruct R as (A & B & C & D & E & F & G & H).
  destruct s as [w q h n]. simpl in *. rewrite C in * by lia. subst.
  set (b := a + y). set (h1 := upd h x' b true).
  assert (Gb : forall z, h z b = false) by (intros; apply G; unfold b; lia).
  assert (C1 : forall z, count hi h1 z = count hi h z + (if teq z x' then 1 else 0)).
  { intros z. unfold h1. destruct (teq z x') eqn:T; [apply teq_true in T; subst z|].
    - rewrite count_add by (auto; unfold b; lia). lia.
    - rewrite count_other by auto. lia. }
  assert (F1 : forall w k n, fits hi M (mk w k h1 n) = true).
  { intros. apply fits_all. simpl. intros z. rewrite C1. specialize (H z). unfold less in W'.
    destruct x, x', z; simpl in *; lia. }
  destruct (IR hi M b (mk (Some b) None h1 (a + t))) as (l1 & s1 & L1 & L2 & L3 & L4 & L5 & L6).
  { repeat split; simpl; auto; try (unfold b; lia).
    - unfold h1, upd. now rewrite teq_refl, Nat.eqb_refl.
    - destruct x'; simpl; unfold h1, upd; simpl; auto.
    - intros z p Hp. unfold h1, upd. rewrite (proj2 (Nat.eqb_neq p b)), andb_false_r by lia. apply G. unfold b in *.
      lia.
    - intros z. rewrite C1. specialize (H z). unfold less.
      destruct (teq z x) eqn:T; [apply teq_true in T; subst z|]; lia. }
  simpl in L5. destruct s1 as [w1 q1 h2 n1]. simpl in *. subst q1 n1.
  assert (S2 : forall z p, h2 z p = h z p).
  { intros z p. destruct (Nat.eq_dec p b) as [->|N]. { now rewrite L6, Gb. }
    rewrite L5 by auto. unfold h1, upd. rewrite (proj2 (Nat.eqb_neq p b)), andb_false_r by lia. auto. }
  assert (C2 : forall z, count hi h2 z = count hi h z) by (intros; apply count_ext; auto).
  assert (F2 : forall w k n, fits hi M (mk w k h2 n) = true).
  { intros. apply fits_all. simpl. intros z. rewrite C2. specialize (H z). destruct (teq z x) eqn:T;
    [apply teq_true in T; subst z|]; lia. }
  destruct (IL hi M a (mk (Some a) None h2 b)) as (l2 & s2 & K1 & K2 & K3 & K4 & K5 & K6).
  { repeat split; simpl; auto; try (unfold b; lia).
    - now rewrite S2.
    - now rewrite S2.
    - intros z p Hp. rewrite S2. auto.
    - intros z. rewrite C2. auto. }
  simpl in K5.
  exists (Advance a b :: Store x' b :: l1 ++ Restore x a :: l2), s2. simpl. unfold guard, idle. simpl.
  rewrite Nat.eqb_refl, (proj2 (Nat.ltb_lt a b)), (proj2 (Nat.leb_le b hi)) by (unfold b; lia). simpl. rewrite FIT.
  unfold guard, idle. simpl. rewrite Nat.eqb_refl, Gb. simpl. fold h1. rewrite F1, (execute_app _ _ _ _ _ _ L1). simpl.
  unfold guard, idle. simpl. rewrite S2, E. simpl. rewrite F2, K1. repeat split; auto.
  - rewrite cost_app, L4. simpl. rewrite K4. replace (b - a) with y by (unfold b; lia). lia.
  - intros z p Hp. now rewrite K5, S2 by auto.
Qed.

(* a plan of some steps has a slot for its start *)
Lemma plan_slot : forall c x m t k, plan c x m t k -> 1 <= t -> 1 <= m x.
Proof. induction 1; auto; lia. Qed.

(* every plan is carried out *)
Theorem plan_solves : forall c x m t k, plan c x m t k -> Solves c x m t k.
Proof.
  induction 1.
  - apply solve_none.
  - now apply solve_last.
  - apply solve_cut; auto. apply plan_slot in H1; auto. lia.
  - now apply solve_move.
Qed.

(* at the start only its own slot is in use *)
Lemma count_init : forall hi x y, count hi (held (init x hi)) y = if teq y x then 1 else 0.
Proof.
  intros. rewrite count_sumr, (sumr_at _ 0 0 (S hi)) by lia. simpl.
  rewrite !sumr_zero by (intros; rewrite ?andb_false_r; cases; rewrite andb_false_r; auto). rewrite andb_true_r. lia.
Qed.

(* For all t, slots, prices and both tiers to start in: every plan's cost is the cost of a complete schedule. *)
Theorem plan_reached : forall c x m t k, plan c x m t k -> 1 <= t ->
  exists l, complete x m t l = true /\ cost c l = k.
Proof.
  intros c x m t k P Ht. destruct (plan_solves c x m t k P t m 0 (init x t)) as (l & s1 & L1 & L2 & L3 & L4 & L5 & L6).
  { unfold Ready. simpl. rewrite teq_refl. destruct (teq_other x) as (T1 & T2). rewrite T1. repeat split; auto.
    - intros y z Hz. rewrite (proj2 (Nat.eqb_neq z 0)) by lia. apply andb_false_r.
    - intros y. change (fun y z => teq y x && (z =? 0)) with (held (init x t)). rewrite count_init. lia. }
  exists l. split; auto. unfold complete. rewrite L1, L3. simpl.
  assert (Z : forall y, count t (held s1) y = 0).
  { intros y. rewrite count_sumr. apply sumr_zero. intros z _. destruct (Nat.eq_dec z 0) as [->|N]. { now rewrite L6. }
    rewrite L5 by auto. simpl. rewrite (proj2 (Nat.eqb_neq z 0)), andb_false_r by lia. auto. }
  now rewrite !Z.
Qed.
