(* MSM+: its recurrence is the least cost over all legal schedules with separate storage; with a start that is never
   dropped, that of R. At any price of a recorded forward the schedule is the same. *)
From Membptt Require Import Laws Policies Bellman Price.
From Membptt Require Follow Reached.

Section MsmPlus.
Variable alpha : nat.
Hypothesis alpha_2 : 2 <= alpha.
(* the general statements at this alpha *)
Let size := Build_Size alpha alpha_2.

(* no legal schedule costs less *)
Theorem msm_plus_lower_bound : forall t m l, 1 <= m -> legal (SEPARATE alpha) m t l = true ->
  msm_plus alpha t m <= cost l.
Proof. intros. apply (@Follow.separate_lower_bound size false); auto. discriminate. Qed.
(* the same for those that keep the start *)
Theorem msm_plus_kept_lower_bound : forall t m l, 1 <= m -> legal (SEPARATE alpha) m t l = true ->
  ~ In (DropHidden 0) l ->
  msm_plus_kept alpha t m <= cost l.
Proof. intros. apply (@Follow.separate_lower_bound size true); auto. Qed.
(* one complete schedule costs just that *)
Theorem msm_plus_reached : forall t m, 1 <= m ->
  exists l, complete (SEPARATE alpha) m t l = true /\ cost l = msm_plus alpha t m /\ recorded l = t.
Proof. exact (@Reached.separate_reached size). Qed.
(* and one that keeps the start *)
Theorem msm_plus_kept_reached : forall t m, 1 <= m ->
  exists l, legal (SEPARATE alpha) m t l = true /\ ~ In (DropHidden 0) l /\ cost l = msm_plus_kept alpha t m /\
    recorded l = t.
Proof. exact (@Reached.separate_kept_reached size). Qed.

(* MSM+ is optimal *)
Theorem msm_plus_exact : forall t m, 1 <= m ->
  (exists l, complete (SEPARATE alpha) m t l = true /\ cost l = msm_plus alpha t m) /\
  (forall l, legal (SEPARATE alpha) m t l = true -> msm_plus alpha t m <= cost l).
Proof.
  intros t m Hm. split; [|intros; apply msm_plus_lower_bound; auto].
  destruct (msm_plus_reached t m Hm) as (l & A & B & _). eauto.
Qed.
(* so is R, among the schedules that never drop the start *)
Theorem msm_plus_kept_exact : forall t m, 1 <= m ->
  (exists l, legal (SEPARATE alpha) m t l = true /\ ~ In (DropHidden 0) l /\ cost l = msm_plus_kept alpha t m) /\
  (forall l, legal (SEPARATE alpha) m t l = true -> ~ In (DropHidden 0) l -> msm_plus_kept alpha t m <= cost l).
Proof.
  intros t m Hm. split; [|intros; apply msm_plus_kept_lower_bound; auto].
  destruct (msm_plus_kept_reached t m Hm) as (l & A & B & C & _). eauto.
Qed.
(* at any price a of a forward and b >= a of a recorded one *)
Theorem msm_plus_any_price : forall a b t m, a <= b -> 1 <= m ->
  (exists l, complete (SEPARATE alpha) m t l = true /\ price a b l = a * (msm_plus alpha t m - t) + b * t) /\
  (forall l, legal (SEPARATE alpha) m t l = true -> a * (msm_plus alpha t m - t) + b * t <= price a b l).
Proof.
  intros a b t m Hab Hm. destruct (msm_plus_reached t m Hm) as (l & A & B & D). split.
  - exists l. split; auto. rewrite <- B. apply price_reached. auto.
  - intros l' H. apply price_least; auto. rewrite <- B, <- D. apply recorded_le_cost.
    apply msm_plus_lower_bound; auto. eapply each_step_recorded; eauto.
Qed.
End MsmPlus.

(* a witness: alpha = 2, 4 steps in 2 slots, 7 forwards, the product's own schedule; 1 slot is not enough for it *)
Definition plus_4_2 := [Advance 0 2; StoreHidden 2; Advance 2 3; Record 3; Backpropagate 3; Restore 2; Record 2;
  Backpropagate 2; DropHidden 2;
  Restore 0; DropHidden 0; Record 0; StoreInternal 0; Record 1; Backpropagate 1; LoadInternal 0; Backpropagate 0].
(* checked by computation *)
Example msm_plus_witness : complete (SEPARATE 2) 2 4 plus_4_2 = true /\ cost plus_4_2 = 7 /\ msm_plus 2 4 2 = 7 /\
  legal (SEPARATE 2) 1 4 plus_4_2 = false.
Proof. vm_compute. auto. Qed.
