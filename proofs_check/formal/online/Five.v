(* Five slots: 18/17 for every t (half a minute; checked with --slow). *)
From Membptt Require Import Laws Values Hsm Ism Closed Online Restart RestartCost Anypol Best.
Require Import NArith.
(* five slots *)
Theorem five_slots : exists P : online_policy 5, forall t, 1 <= t -> 17 * online P t <= 18 * hsm t 5.
Proof. computed 5 400 18%N 17%N 1%N true 20 53130%N. Qed.
