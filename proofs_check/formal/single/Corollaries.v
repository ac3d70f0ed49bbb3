(* What follows: HSM is never better than (10), ISM as printed wastes the working core, and the product's published
   numbers of forwards at t = 1000. *)
From Membptt Require Import Laws Values Hsm Ism Shared Closed.

(* (10) is never worse than HSM in as many slots *)
Theorem shared_le_hsm : forall alpha, 2 <= alpha -> forall m, 1 <= m -> forall t, shared alpha t m <= hsm t m.
Proof.
  intros alpha Ha. induction m as [|m IHm]; intros Hm t; [lia|]. induction t as [t IH] using lt_wf_ind.
  destruct (le_lt_dec t 1) as [Ht|Ht].
  { destruct t. rewrite shared_no_step. lia. replace t with 0 by lia. rewrite shared_one_step, hsm_one_step. auto. }
  destruct m. { rewrite shared_one_slot, hsm_one_slot. auto. }
  rewrite hsm_cuts by lia. replace (S (S m) - 1) with (S m) by lia.
  destruct (least_in (t - 1) (fun y => y + hsm y (S (S m)) + hsm (t - y) (S m)) ltac:(lia)) as (y & Hy & E). rewrite E.
  pose proof (shared_hidden alpha Ha t (S (S m)) y ltac:(lia) ltac:(lia)) as Q.
  replace (S (S m) - 1) with (S m) in Q by lia.
  pose proof (IH y ltac:(lia)). pose proof (IHm ltac:(lia) (t - y)). lia.
Qed.

(* ISM is not optimal over all legal schedules with as many slots: 2 steps in 1 slot, 2 forwards against 3 *)
Example ism_as_printed_beaten : exists l, complete ISM 1 2 l = true /\ cost l < ism 2 1.
Proof.
  exists [Record 0; StoreInternal 0; Record 1; Backpropagate 1; LoadInternal 0; Backpropagate 0].
  split; [reflexivity | apply Nat.ltb_lt; reflexivity].
Qed.

(* C(t, m) on line r, by computation *)
Lemma hsm_value : forall t m r c, 1 <= m -> (beta (m - 1) r <=? t) && (t <=? beta (m - 1) (S r)) && (S r * t =? c +
  beta m r) = true ->
  hsm t m = c.
Proof.
  intros t m r c Hm H. bools. pose proof (hsm_on_line (m - 1) t r) as Q. replace (S (m - 1)) with m in Q by lia.
  specialize (Q (conj H H1)). lia.
Qed.
(* ISM by HSM of one step more *)
Lemma ism_value : forall t m c, 1 <= m -> hsm (t + 1) m = c + (t + 1) -> ism t m = c.
Proof. intros t m c Hm H. pose proof (duality m t Hm). lia. Qed.
Ltac by_line r := apply (hsm_value _ _ r); [apply Nat.leb_le; reflexivity | vm_compute; reflexivity].

(* 4.636, 2.948, 2.898 and 1.999 forwards a step in 10, 50, 100 and 1000 slots, HSM *)
Example hsm_targets : hsm 1000 10 = 4636 /\ hsm 1000 50 = 2948 /\ hsm 1000 100 = 2898 /\ hsm 1000 1000 = 1999.
Proof. split; [by_line 4 | split; [by_line 2 | split; [by_line 2 | by_line 1]]]. Qed.
(* 3.640, 1.950 and 1.900, ISM *)
Example ism_targets : ism 1000 10 = 3640 /\ ism 1000 50 = 1950 /\ ism 1000 100 = 1900.
Proof. split; [|split]; (apply ism_value; [apply Nat.leb_le; reflexivity|]); [by_line 4 | by_line 2 | by_line 2]. Qed.
