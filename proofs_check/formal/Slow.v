(* The two theorems whose computation takes minutes. *)
From Membptt Require Import Laws Recurrences.
From Membptt Require Online Five Six.

(* a policy of five slots keeps 18 / 17 for every t, one of six 20 / 19: 1 + 1 / (2m + 7), so none is better *)
Theorem online_five_slots : exists P : Online.online_policy 5, forall t, 1 <= t ->
  17 * Online.online P t <= 18 * hsm t 5.
Proof. exact Five.five_slots. Qed.
(* six slots *)
Theorem online_six_slots : exists P : Online.online_policy 6, forall t, 1 <= t ->
  19 * Online.online P t <= 20 * hsm t 6.
Proof. exact Six.six_slots. Qed.
