(* The machine of theory/membptt_theory/machine.py: hidden and internal states, one working state, one working core. A
   policy says which kinds may be stored and what a stored set weighs. Definitions only. *)
From Membptt Require Export Counting.

(* ---------------------------------------------------------------- definitions *)

(* the instruction set, as actions.py *)
Inductive act :=
| Advance (p q : nat) | Record (p : nat) | Backpropagate (p : nat)
| StoreHidden (q : nat) | StoreInternal (p : nat)
| Restore (q : nat) | LoadInternal (p : nat)
| DropHidden (q : nat) | DropInternal (p : nat).

(* working position, step in the working core, stored hidden states, stored internal states, steps not yet backward *)
Structure st := mk { pos : option nat; core : option nat; hid : nat -> bool; int : nat -> bool; lft : nat }.

(* weigh h o i: slots of position q, where h: hidden state q is stored, o: it is the output of a stored internal state
   (of step q - 1), i: it is the input of one (of step q). input_held: a stored internal state still has its input; that
   can be restored, and what such a state holds can be kept at any time, for after it is dropped. *)
Structure policy := Policy {
  hidden_ok : bool; internal_ok : bool; input_held : bool; weigh : bool -> bool -> bool -> nat }.

(* a stored set, by membership *)
Definition set := nat -> bool.
(* with q *)
Definition add (f : set) q : set := fun x => if x =? q then true else f x.
(* without q *)
Definition del (f : set) q : set := fun x => if x =? q then false else f x.
(* q is the output of a stored internal state *)
Definition output (i : set) q := match q with 0 => false | S p => i p end.
(* there is one, and it is p *)
Definition is (o : option nat) p := match o with Some x => x =? p | None => false end.
(* the working core is empty *)
Definition idle s := match core s with Some _ => false | None => true end.
(* the next state, if the action is legal *)
Definition guard (b : bool) (s : st) := if b then Some s else None.

Section Machine.
Variable pol : policy.
Variable hi : nat. (* the last position: steps are those below it *)

(* what can be restored: a stored hidden state, the output of a stored internal state, its input if it is held *)
Definition available (h i : set) q := h q || output i q || (input_held pol && i q).

(* one action, as machine.py: execute *)
Definition exec (s : st) (a : act) : option st :=
  match a with
  | Advance p q => guard (idle s && is (pos s) p && (p <? q) && (q <=? hi)) (mk (Some q) None (hid s) (int s) (lft s))
  | Record p => guard (idle s && is (pos s) p && (p <? hi)) (mk (Some (S p)) (Some p) (hid s) (int s) (lft s))
  | Backpropagate p => guard (is (core s) p && (lft s =? S p)) (mk None None (hid s) (int s) p)
  | StoreHidden q => guard (hidden_ok pol && (idle s && is (pos s) q || input_held pol && available (hid s) (int s) q)
                            && negb (hid s q)) (mk (pos s) (core s) (add (hid s) q) (int s) (lft s))
  | StoreInternal p => guard (internal_ok pol && is (core s) p && negb (int s p))
                             (mk (pos s) None (hid s) (add (int s) p) (lft s))
  | Restore q => guard (idle s && available (hid s) (int s) q) (mk (Some q) None (hid s) (int s) (lft s))
  | LoadInternal p => guard (idle s && int s p) (mk (Some (S p)) (Some p) (hid s) (del (int s) p) (lft s))
  | DropHidden q => guard (hidden_ok pol && hid s q) (mk (pos s) (core s) (del (hid s) q) (int s) (lft s))
  | DropInternal p => guard (int s p) (mk (pos s) (core s) (hid s) (del (int s) p) (lft s))
  end.

(* the slots of position q *)
Definition weight (h i : set) q := weigh pol (h q) (output i q) (i q).
(* the slots in use *)
Definition room s := sum (weight (hid s) (int s)) 0 (S hi).

(* a stream of actions in m slots *)
Fixpoint execute m (s : st) (l : list act) : option st :=
  match l with
  | [] => Some s
  | a :: r => match exec s a with
              | Some s1 => if room s1 <=? m then execute m s1 r else None
              | None => None
              end
  end.

(* one action, as rules *)
Inductive step : st -> act -> st -> Prop :=
| Adv : forall h i n p q, p < q -> q <= hi -> step (mk (Some p) None h i n) (Advance p q) (mk (Some q) None h i n)
| Rec : forall h i n p, p < hi -> step (mk (Some p) None h i n) (Record p) (mk (Some (S p)) (Some p) h i n)
| Bwd : forall h i p w, step (mk w (Some p) h i (S p)) (Backpropagate p) (mk None None h i p)
| StH : forall h i n q, hidden_ok pol = true -> h q = false ->
    step (mk (Some q) None h i n) (StoreHidden q) (mk (Some q) None (add h q) i n)
| Kee : forall h i n w c q, hidden_ok pol = true -> input_held pol = true -> available h i q = true -> h q = false ->
    step (mk w c h i n) (StoreHidden q) (mk w c (add h q) i n)
| StI : forall h i n w p, internal_ok pol = true -> i p = false ->
    step (mk w (Some p) h i n) (StoreInternal p) (mk w None h (add i p) n)
| Res : forall h i n w q, available h i q = true -> step (mk w None h i n) (Restore q) (mk (Some q) None h i n)
| LdI : forall h i n w p, i p = true ->
    step (mk w None h i n) (LoadInternal p) (mk (Some (S p)) (Some p) h (del i p) n)
| DrH : forall h i n w c q, hidden_ok pol = true -> h q = true ->
    step (mk w c h i n) (DropHidden q) (mk w c (del h q) i n)
| DrI : forall h i n w c p, i p = true -> step (mk w c h i n) (DropInternal p) (mk w c h (del i p) n).

(* a run: the actions, each with the state it leads to *)
Definition trace := list (act * st).
(* follow the rules, within m slots *)
Fixpoint run m (s : st) (l : trace) : Prop :=
  match l with [] => True | (a, s1) :: r => step s a s1 /\ room s1 <= m /\ run m s1 r end.
End Machine.

(* the last state of a run *)
Fixpoint fin (s : st) (l : trace) : st := match l with [] => s | (_, s1) :: r => fin s1 r end.

(* the machine at position a, that state stored, with all steps from a to hi to do *)
Definition init a hi := mk (Some a) None (fun x => x =? a) (fun _ => false) hi.

(* a legal schedule of t steps in m slots *)
Definition legal pol m t (l : list act) : bool :=
  match execute pol t m (init 0 t) l with Some s => lft s =? 0 | None => false end.

(* the same, and every slot is free at the end, as machine.py: finish *)
Definition complete pol m t (l : list act) : bool :=
  match execute pol t m (init 0 t) l with Some s => (lft s =? 0) && (room pol t s =? 0) | None => false end.

(* forwards: all, and those of the steps a .. b-1 *)
Definition span a := match a with Advance p q => (p, q) | Record p => (p, S p) | _ => (0, 0) end.
(* all forwards of a stream *)
Fixpoint cost (l : list act) : nat := match l with [] => 0 | a :: r => (snd (span a) - fst (span a)) + cost r end.
(* how many forwards are recorded *)
Fixpoint recorded (l : list act) : nat :=
  match l with [] => 0 | Record _ :: r => S (recorded r) | _ :: r => recorded r end.
(* how many steps were taken backward *)
Fixpoint backpropagated (l : list act) : nat :=
  match l with [] => 0 | Backpropagate _ :: r => S (backpropagated r) | _ :: r => backpropagated r end.
(* the evaluations of steps a .. b-1 by one action *)
Definition evi a b (x : act) := Nat.min (snd (span x)) b - Nat.max (fst (span x)) a.
(* and by a run *)
Fixpoint ev a b (l : trace) : nat := match l with [] => 0 | (x, _) :: r => evi a b x + ev a b r end.
