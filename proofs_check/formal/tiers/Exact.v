(* The two statements about the product's tables. *)
From Membptt Require Import Counting Tiers TiersReached Value OneTier.

(* a complete schedule is legal *)
Lemma complete_legal : forall x m t l, complete x m t l = true -> legal x m t l = true.
Proof.
  unfold complete, legal. intros x m t l. destruct (execute t m (init x t) l); auto. intros H.
  apply andb_prop in H. destruct H as (H & _). apply andb_prop in H. tauto.
Qed.
(* with a slot for the start there is a plan *)
Lemma some_plan : forall c x m t, 1 <= m x -> exists k, plan c x m t k.
Proof.
  intros c x m t Hm. induction t as [|t (k & P)]. { exists 0. constructor. } eexists. apply p_last; eauto.
Qed.

(* Both tiers, any slots and prices: the recurrence's value is the cost of a complete schedule. *)
Theorem two_tiers_reached : forall c x m t k, 1 <= t -> value c t x m t = Some k ->
  exists l, complete x m t l = true /\ cost c l = k.
Proof. intros c x m t k Ht H. apply plan_reached; auto. eapply value_plan; eauto. Qed.

(* One tier alone, any slots and prices: the recurrence's value is the least cost over all legal schedules. *)
Theorem one_tier_optimal : forall c x m t, m (other x) = 0 -> 1 <= m x -> 1 <= t ->
  exists k, value c t x m t = Some k /\
    (exists l, complete x m t l = true /\ cost c l = k) /\ (forall l, legal x m t l = true -> k <= cost c l).
Proof.
  intros c x m t M0 Hm Ht. destruct (some_plan c x m t Hm) as (j & P).
  destruct (value_least c t x m t j P (le_n t)) as (k & E & _). exists k. split; auto. split.
  - apply two_tiers_reached; auto.
  - intros l L. destruct (proj1 (one_tier_exact c x m t M0 Hm Ht) l L) as (p & P1 & P2).
    destruct (value_least c t x m t p P1 (le_n t)) as (k' & E' & G). rewrite E in E'. injection E' as <-. lia.
Qed.

(* a witness: 4 steps, one fast and one slow slot, prices 1, 2, 1; and the machine refuses it without the slow slot *)
Definition some_schedule := [Advance 0 2; Store Slow 2; Advance 2 3; Record 3; Backpropagate 3; Restore Slow 2;
  Record 2; Backpropagate 2;
  Drop Slow 2; Restore Fast 0; Advance 0 1; Record 1; Backpropagate 1; Restore Fast 0; Record 0; Backpropagate 0;
    Drop Fast 0].
(* checked by computation *)
Example witness : complete Fast (fs 1 1) 4 some_schedule = true /\ cost (Prices 1 2 1) some_schedule = 11 /\
  legal Fast (fs 1 0) 4 some_schedule = false /\ value (Prices 1 2 1) 4 Fast (fs 1 1) 4 = Some 10.
Proof. vm_compute. auto. Qed.
