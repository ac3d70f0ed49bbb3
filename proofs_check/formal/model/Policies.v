(* The five policies: what may be stored, and how many slots a position takes.
   h: its hidden state is stored; o: it is the output of a stored internal state; i: it is the input of one. *)
From Membptt Require Export Machine.

(* HSM: hidden states only, a slot each; the starting state is among them. *)
Definition HSM := Policy true false false
  (fun h _ _ => if h then 1 else 0).

(* ISM: internal states only, a slot each; the starting state is outside the budget and stays. *)
Definition ISM := Policy false true false
  (fun _ o _ => if o then 1 else 0).

(* MSM+: hidden states, 1 slot, and internal states, alpha slots, kept apart: nothing is shared between two stored
   states. *)
Definition SEPARATE alpha := Policy true true false
  (fun h o _ => (if h then 1 else 0) + (if o then alpha else 0)).

(* (10) with beta = alpha - 1, every tensor counted once. A stored internal state of step p is its input h_p, its output
   h_(p+1) and a rest of alpha - 2 slots; each h_p takes one slot, whoever holds it. Dropping an internal state may
   leave its input, its output, or both: they can be kept (StoreHidden) at any time. *)
Definition SHARED alpha := Policy true true true
  (fun h o i => (if h || o || i then 1 else 0) + (if o then alpha - 2 else 0)).

(* (10) as machine.py charges it, sizes 1, alpha, alpha - 1: a hidden state beside the internal state that outputs it
   counts twice, and an internal state's input cannot be restored unless it is stored. *)
Definition CHARGED alpha := Policy true true false
  (fun h o i => (if h then 1 else 0) + (if o then alpha - 1 else 0) + (if i && negb (h || o) then 1 else 0)).
