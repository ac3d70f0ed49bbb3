(* Two tiers of hidden states, as theory/membptt_theory/machine.py: TieredMachine; and the recurrence of tiers.py as
   plans. *)
From Membptt Require Import Counting.

(* ---------------------------------------------------------------- definitions *)

(* the two tiers *)
Inductive tier := Fast | Slow.
(* the other one *)
Definition other x := match x with Fast => Slow | Slow => Fast end.
(* the same tier *)
Definition teq x y := match x, y with Fast, Fast | Slow, Slow => true | _, _ => false end.

(* the instruction set: Store, Restore, Drop Fast are StoreHidden, Restore, DropHidden; of Slow, StoreSlow, ... *)
Inductive act :=
| Advance (p q : nat) | Record (p : nat) | Backpropagate (p : nat)
| Store (x : tier) (q : nat) | Restore (x : tier) (q : nat) | Drop (x : tier) (q : nat).

(* the prices of a forward, of a write to and of a read from the slow tier *)
Structure prices := Prices { forward : nat; write : nat; read : nat }.

(* what each tier holds *)
Definition sets := tier -> nat -> bool.
(* one entry changed *)
Definition upd (h : sets) x q b : sets := fun y z => if teq y x && (z =? q) then b else h y z.
(* working position, step in the working core, stored states, steps not yet backward *)
Structure st := mk { pos : option nat; core : option nat; held : sets; lft : nat }.
(* the slots of each tier *)
Definition slots := tier -> nat.
(* f fast slots and s slow ones *)
Definition fs (f s : nat) : slots := fun x => match x with Fast => f | Slow => s end.

(* there is one, and it is p *)
Definition is (o : option nat) p := match o with Some x => x =? p | None => false end.
(* the working core is empty *)
Definition idle s := match core s with Some _ => false | None => true end.
(* the next state, if the action is legal *)
Definition guard (b : bool) (s : st) := if b then Some s else None.

Section Machine.
Variable hi : nat. (* the last position: steps are those below it *)

(* one action *)
Definition exec (s : st) (a : act) : option st :=
  match a with
  | Advance p q => guard (idle s && is (pos s) p && (p <? q) && (q <=? hi)) (mk (Some q) None (held s) (lft s))
  | Record p => guard (idle s && is (pos s) p && (p <? hi)) (mk (Some (S p)) (Some p) (held s) (lft s))
  | Backpropagate p => guard (is (core s) p && (lft s =? S p)) (mk None None (held s) p)
  | Store x q => guard (idle s && is (pos s) q && negb (held s x q)) (mk (pos s) (core s) (upd (held s) x q true) (lft
    s))
  | Restore x q => guard (idle s && held s x q) (mk (Some q) None (held s) (lft s))
  | Drop x q => guard (held s x q) (mk (pos s) (core s) (upd (held s) x q false) (lft s))
  end.

(* the slots of a tier in use *)
Definition count (h : sets) x := sum (fun z => if h x z then 1 else 0) 0 (S hi).
(* neither tier holds more than its slots *)
Definition fits (m : slots) s := (count (held s) Fast <=? m Fast) && (count (held s) Slow <=? m Slow).

(* a stream of actions within the slots *)
Fixpoint execute m (s : st) (l : list act) : option st :=
  match l with
  | [] => Some s
  | a :: r => match exec s a with Some s1 => if fits m s1 then execute m s1 r else None | None => None end
  end.
End Machine.

(* the machine at position 0, stored in tier x, with t steps to do *)
Definition init x t := mk (Some 0) None (fun y z => teq y x && (z =? 0)) t.
(* a legal schedule of t steps: every step goes backward *)
Definition legal x m t (l : list act) : bool :=
  match execute t m (init x t) l with Some s => lft s =? 0 | None => false end.
(* the same, with every slot free at the end *)
Definition complete x m t (l : list act) : bool :=
  match execute t m (init x t) l with
  | Some s => (lft s =? 0) && (count t (held s) Fast =? 0) && (count t (held s) Slow =? 0) | None => false end.

Section Cost.
Variable c : prices.
(* what a store in a tier and a restart from it cost *)
Definition wr x := match x with Fast => 0 | Slow => write c end.
(* a restart *)
Definition rd x := match x with Fast => 0 | Slow => read c end.
(* an action *)
Definition price a := match a with
  | Advance p q => forward c * (q - p) | Record _ => forward c | Store x _ => wr x | Restore x _ => rd x | _ => 0 end.
(* a stream *)
Fixpoint cost (l : list act) := match l with [] => 0 | a :: r => price a + cost r end.

(* one slot fewer in tier x *)
Definition less (m : slots) x : slots := fun y => if teq y x then m y - 1 else m y.

(* The recurrence of tiers.py, one rule a term: plan x m t k: k is the cost of some choices for t steps, started in tier
   x, with m slots, the start's own included. The recurrence's value is the least k. *)
Inductive plan : tier -> slots -> nat -> nat -> Prop :=
| p_none : forall x m, plan x m 0 0
| p_last : forall x m t k, 1 <= m x -> plan x m t k ->
    plan x m (S t) (forward c * S t + (if t =? 0 then 0 else rd x) + k)
| p_cut : forall x m x' y t k1 k2, 1 <= m x -> 1 <= y < t -> plan x' (less m x) (t - y) k2 -> plan x m y k1 ->
    plan x m t (forward c * y + rd x + k1 + (wr x' + k2))
| p_move : forall x m t k, 1 <= t -> 1 <= m x -> 1 <= m (other x) -> plan (other x) m t k ->
  plan x m t (wr (other x) + k).
End Cost.

(* ---------------------------------------------------------------- laws *)

(* a tier is itself *)
Lemma teq_refl : forall x, teq x x = true.
Proof. destruct x; auto. Qed.
(* and not the other *)
Lemma teq_other : forall x, teq (other x) x = false /\ teq x (other x) = false.
Proof. destruct x; auto. Qed.
(* equal, as a program and as a statement *)
Lemma teq_true : forall x y, teq x y = true -> x = y.
Proof. destruct x, y; simpl; auto; discriminate. Qed.
(* either way *)
Lemma teq_sym : forall x y, teq x y = teq y x.
Proof. destruct x, y; auto. Qed.

(* the slots in use, as a sum over positions *)
Lemma count_sumr : forall hi h x, count hi h x = sumr (fun z => if h x z then 1 else 0) 0 (S hi).
Proof. intros. unfold count, sumr. now rewrite Nat.sub_0_r. Qed.
(* equal sets take equal slots *)
Lemma count_ext : forall hi h h' x, (forall z, h x z = h' x z) -> count hi h x = count hi h' x.
Proof. intros. rewrite !count_sumr. apply sumr_ext. intros. now rewrite H. Qed.
(* a change in one tier leaves the other alone *)
Lemma count_other : forall hi h x q b y, teq y x = false -> count hi (upd h x q b) y = count hi h y.
Proof. intros. apply count_ext. intros. unfold upd. now rewrite H. Qed.
(* a store takes a slot *)
Lemma count_add : forall hi h x q, q <= hi -> h x q = false -> count hi (upd h x q true) x = S (count hi h x).
Proof.
  intros. rewrite !count_sumr.
  pose proof (sumr_change (fun z => if upd h x q true x z then 1 else 0) (fun z =>
    if h x z then 1 else 0) q 0 (S hi) ltac:(lia)) as E.
  simpl in E. rewrite H0 in E. unfold upd in E at 3. rewrite teq_refl, Nat.eqb_refl in E. simpl in E.
  assert (forall y, y <> q -> (if upd h x q true x y then 1 else 0) = (if h x y then 1 else 0)).
  { intros. unfold upd. rewrite (proj2 (Nat.eqb_neq y q)) by lia. now rewrite andb_false_r. }
  specialize (E H1). lia.
Qed.
(* a drop frees one *)
Lemma count_del : forall hi h x q, q <= hi -> h x q = true -> S (count hi (upd h x q false) x) = count hi h x.
Proof.
  intros. rewrite !count_sumr.
  pose proof (sumr_change (fun z => if upd h x q false x z then 1 else 0) (fun z =>
    if h x z then 1 else 0) q 0 (S hi) ltac:(lia)) as E.
  simpl in E. rewrite H0 in E. unfold upd in E at 3. rewrite teq_refl, Nat.eqb_refl in E. simpl in E.
  assert (forall y, y <> q -> (if upd h x q false x y then 1 else 0) = (if h x y then 1 else 0)).
  { intros. unfold upd. rewrite (proj2 (Nat.eqb_neq y q)) by lia. now rewrite andb_false_r. }
  specialize (E H1). lia.
Qed.

(* two streams *)
Lemma cost_app : forall c l1 l2, cost c (l1 ++ l2) = cost c l1 + cost c l2.
Proof. induction l1; simpl; intros; auto. rewrite IHl1. lia. Qed.
(* one after the other *)
Lemma execute_app : forall hi m l1 l2 s s1, execute hi m s l1 = Some s1 ->
  execute hi m s (l1 ++ l2) = execute hi m s1 l2.
Proof.
  induction l1 as [|a l1 IH]; simpl; intros. { now injection H as ->. }
  destruct (exec hi s a); try discriminate. destruct (fits hi m s0); try discriminate. auto.
Qed.

(* within the slots, by tier *)
Lemma fits_all : forall hi m s, (forall y, count hi (held s) y <= m y) -> fits hi m s = true.
Proof. intros. unfold fits. now rewrite !(proj2 (Nat.leb_le _ _)). Qed.
