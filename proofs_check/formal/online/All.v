(* Every m >= 2: some policy keeps 41/35 for every t; two slots cannot do better (as modelled: a kept state is kept, the
   end completes each gap). And what the model leaves out: a state may be replaced while a sweep passes it. *)
From Membptt Require Import Laws Values Hsm Ism Closed Online Restart RestartCost Anypol Best.
Require Import NArith.
(* one policy for each m, those up to seven slots by computation *)
Theorem forty_one : forall m, 2 <= m -> exists P : online_policy m, forall t, 1 <= t -> 35 * online P t <= 41 * hsm t m.
Proof.
  intros m Hm. destruct (le_lt_dec 8 m).
  - exists (W_policy m ltac:(lia)). intros t Ht. pose proof (eight_sevenths m t l Ht). unfold online. simpl used. lia.
  - assert (m = 2 \/ m = 3 \/ m = 4 \/ m = 5 \/ m = 6 \/ m = 7) as [->|[->|[->|[->|[->| ->]]]]] by lia.
    + exact two_slots.
    + destruct three_slots as (P & H). exists P. intros t Ht. specialize (H t Ht). lia.
    + destruct four_slots as (P & H). exists P. intros t Ht. specialize (H t Ht). lia.
    + computed 5 400 41%N 35%N 1%N false 6 462%N.
    + computed 6 400 41%N 35%N 1%N false 6 924%N.
    + computed 7 400 41%N 35%N 1%N false 6 1716%N.
Qed.
(* two slots already need that much *)
Theorem forty_one_is_least : forall num den, 1 <= den ->
  (forall m, 2 <= m -> exists P : online_policy m, forall t, 1 <= t -> den * online P t <= num * hsm t m) ->
    41 * den <= 35 * num.
Proof.
  intros num den Hd H. destruct (H 2 ltac:(lia)) as (P & A). destruct (two_slots_lower P) as (t & B & C).
  specialize (A t ltac:(lia)). pose proof (above_0 2 t ltac:(lia)).
  assert (41 * den * hsm t 2 <= 35 * num * hsm t 2) by nia. nia.
Qed.

(* six steps, two slots, states 0 and 1 stored on the way: 16 forwards; the model says 17 *)
Definition sweep := [Advance 0 1; StoreHidden 1; Advance 1 5; Record 5; Backpropagate 5;
  Restore 1; Advance 1 2; DropHidden 1; StoreHidden 2; Advance 2 4; Record 4; Backpropagate 4;
  Restore 2; Advance 2 3; Record 3; Backpropagate 3; Restore 2; Record 2; Backpropagate 2; DropHidden 2;
  Restore 0; Advance 0 1; StoreHidden 1; Record 1; Backpropagate 1; DropHidden 1; Restore 0; Record 0;
    Backpropagate 0; DropHidden 0].
(* so the model's end is not the best end *)
Example a_cheaper_end : complete HSM 2 6 sweep = true /\ cost sweep = 16 /\ evals 6 2 [] = 17 /\ evals 6 2 [1] = 17.
Proof. vm_compute. auto. Qed.
