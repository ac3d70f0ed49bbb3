(* What the generated checks compare with machine.py: how many actions of a stream are accepted, and, where it is
   complete, its forwards, those of them that were recorded, and its peak. *)
From Membptt Require Import Laws Policies Recurrences.
From Membptt Require Tiers.

(* the last state, and the most slots in use at any time after the first action *)
Fixpoint meter pol hi s (l : list act) : option (st * nat) := match l with
  | [] => Some (s, 0)
  | a :: r => match exec pol hi s a with
              | Some s1 => match meter pol hi s1 r with Some (s2, peak) => Some (s2,
                Nat.max (room pol hi s1) peak) | None => None end
              | None => None end end.
(* a stream is accepted in m slots exactly where m is its peak or more: one peak stands for the verdict at every m *)
Theorem meter_execute : forall l pol hi m s s2,
  execute pol hi m s l = Some s2 <-> exists peak, meter pol hi s l = Some (s2, peak) /\ peak <= m.
Proof.
  induction l as [|a l IH]; intros pol hi m s s2; simpl.
  - split. { intro H. injection H as <-. exists 0. split; auto. lia. } intros (p & H & _). injection H as <- <-. auto.
  - destruct (exec pol hi s a) as [s1|]. 2: { split; [discriminate | intros (p & H & _); discriminate]. }
    destruct (Nat.leb_spec (room pol hi s1) m) as [L|L].
    + rewrite IH. split; intros (p & H & Hp).
      * rewrite H. eexists. split; [reflexivity|]. lia.
      * destruct (meter pol hi s1 l) as [[s3 q]|]; [|discriminate]. injection H as <- <-. exists q. split; auto. lia.
    + split; [discriminate|]. intros (p & H & Hp). destruct (meter pol hi s1 l) as [[s3 q]|]; [|discriminate].
      injection H as <- <-. lia.
Qed.

(* how many actions are accepted *)
Fixpoint accepted pol hi s (l : list act) : nat := match l with [] => 0 | a :: r =>
  match exec pol hi s a with Some s1 => S (accepted pol hi s1 r) | None => 0 end end.
(* of t steps: accepted actions; if the stream is complete, forwards, recorded ones, peak with the start's own slot *)
Definition report pol t (l : list act) : nat * option (nat * nat * nat) :=
  let s := init 0 t in
  (accepted pol t s l, match meter pol t s l with
    | Some (s1, peak) => if (lft s1 =? 0) && (room pol t s1 =? 0) then Some (cost l, recorded l,
      Nat.max (room pol t s) peak) else None
    | None => None end).

(* three numbers are equal *)
Definition equal3 (x y : nat * nat * nat) := let '(a, b, c) := x in let '(a', b',
  c') := y in (a =? a') && (b =? b') && (c =? c').
(* two reports are equal *)
Definition same_report (x y : nat * option (nat * nat * nat)) := (fst x =? fst y) && match snd x, snd y with
  | Some u, Some v => equal3 u v | None, None => true | _, _ => false end.

(* two tiers: accepted actions; if complete, forwards, writes, reads, the peaks of both tiers *)
Fixpoint tiers_accepted hi s l : nat := match l with [] => 0 | a :: r =>
  match Tiers.exec hi s a with Some s1 => S (tiers_accepted hi s1 r) | None => 0 end end.
(* the most slots of tier x in use at any time *)
Fixpoint tiers_peak hi x s l : nat := Nat.max (Tiers.count hi (Tiers.held s) x) (match l with [] => 0 | a :: r =>
  match Tiers.exec hi s a with Some s1 => tiers_peak hi x s1 r | None => 0 end end).
(* what TieredMachine reports *)
Definition tiers_report x t l : nat * option (list nat) :=
  let s := Tiers.init x t in
  (tiers_accepted t s l, if Tiers.complete x (fun _ => S t) t l
    then Some [Tiers.cost (Tiers.Prices 1 0 0) l; Tiers.cost (Tiers.Prices 0 1 0) l; Tiers.cost (Tiers.Prices 0 0 1) l;
               tiers_peak t Tiers.Fast s l; tiers_peak t Tiers.Slow s l] else None).
(* two lists are equal *)
Fixpoint equal_lists (l r : list nat) := match l, r with [] , [] => true | a :: l,
  b :: r => (a =? b) && equal_lists l r | _, _ => false end.
(* two reports are equal *)
Definition same_tiers (x y : nat * option (list nat)) := (fst x =? fst y) && match snd x, snd y with
  | Some u, Some v => equal_lists u v | None, None => true | _, _ => false end.

(* a stream and what the product's machine says of it; the comparison, and that it notices a wrong answer *)
Definition agrees (x : policy * nat * list act * (nat * option (nat * nat * nat))) :=
  let '(pol, t, l, r) := x in same_report (report pol t l) r.
(* spoilt in either part, an answer is refused *)
Definition notices (x : policy * nat * list act * (nat * option (nat * nat * nat))) :=
  let '(pol, t, l, (n, r)) := x in
  negb (agrees (pol, t, l, (S n, r))) && negb (agrees (pol, t, l, (n, match r with Some _ => None
    | None => Some (0, 0, 0) end))).
(* the same for two tiers *)
Definition tiers_agree (x : Tiers.tier * nat * list Tiers.act * (nat * option (list nat))) :=
  let '(y, t, l, r) := x in same_tiers (tiers_report y t l) r.
(* and that it notices *)
Definition tiers_notice (x : Tiers.tier * nat * list Tiers.act * (nat * option (list nat))) :=
  let '(y, t, l, (n, r)) := x in
  negb (tiers_agree (y, t, l, (S n, r))) && negb (tiers_agree (y, t, l, (n,
    match r with Some _ => None | None => Some [] end))).

(* a recurrence for all t <= n, m <= k, row by row *)
Definition table (C : nat -> nat -> nat) n k := map (fun m => map (fun t => C t m) (seq 1 n)) (seq 1 k).
