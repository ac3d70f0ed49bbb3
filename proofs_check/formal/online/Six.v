(* Six slots: 20/19 for every t (about three minutes; checked with --slow). *)
From Membptt Require Import Laws Values Hsm Ism Closed Online Restart RestartCost Anypol Best.
Require Import NArith.
(* six slots *)
Theorem six_slots : exists P : online_policy 6, forall t, 1 <= t -> 19 * online P t <= 20 * hsm t 6.
Proof. computed 6 400 20%N 19%N 3%N true 21 296010%N. Qed.
