(* Two tiers of hidden states, as theory/membptt_theory/machine.py: TieredMachine; the recurrence of tiers.py as plans;
   every plan is carried out by a complete schedule at its cost, for all t, f, s and prices. *)
From Membptt Require Import Counting.

(* ---------------------------------------------------------------- definitions *)

Inductive tier := Fast | Slow.
Definition other x := match x with Fast => Slow | Slow => Fast end.
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
Definition fs (f s : nat) : slots := fun x => match x with Fast => f | Slow => s end.

Definition is (o : option nat) p := match o with Some x => x =? p | None => false end.
Definition idle s := match core s with Some _ => false | None => true end.
Definition guard (b : bool) (s : st) := if b then Some s else None.

Section Machine.
Variable hi : nat. (* the last position: steps are those below it *)

(* one action *)
Definition exec (s : st) (a : act) : option st :=
  match a with
  | Advance p q => guard (idle s && is (pos s) p && (p <? q) && (q <=? hi)) (mk (Some q) None (held s) (lft s))
  | Record p => guard (idle s && is (pos s) p && (p <? hi)) (mk (Some (S p)) (Some p) (held s) (lft s))
  | Backpropagate p => guard (is (core s) p && (lft s =? S p)) (mk None None (held s) p)
  | Store x q => guard (idle s && is (pos s) q && negb (held s x q)) (mk (pos s) (core s) (upd (held s) x q true) (lft s))
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
Definition rd x := match x with Fast => 0 | Slow => read c end.
Definition price a := match a with
  | Advance p q => forward c * (q - p) | Record _ => forward c | Store x _ => wr x | Restore x _ => rd x | _ => 0 end.
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
| p_move : forall x m t k, 1 <= t -> 1 <= m x -> 1 <= m (other x) -> plan (other x) m t k -> plan x m t (wr (other x) + k).
End Cost.

(* ---------------------------------------------------------------- laws *)

Lemma teq_refl : forall x, teq x x = true.
Proof. destruct x; auto. Qed.
Lemma teq_other : forall x, teq (other x) x = false /\ teq x (other x) = false.
Proof. destruct x; auto. Qed.
Lemma teq_true : forall x y, teq x y = true -> x = y.
Proof. destruct x, y; simpl; auto; discriminate. Qed.
Lemma teq_sym : forall x y, teq x y = teq y x.
Proof. destruct x, y; auto. Qed.

Lemma count_sumr : forall hi h x, count hi h x = sumr (fun z => if h x z then 1 else 0) 0 (S hi).
Proof. intros. unfold count, sumr. now rewrite Nat.sub_0_r. Qed.
Lemma count_ext : forall hi h h' x, (forall z, h x z = h' x z) -> count hi h x = count hi h' x.
Proof. intros. rewrite !count_sumr. apply sumr_ext. intros. now rewrite H. Qed.
Lemma count_other : forall hi h x q b y, teq y x = false -> count hi (upd h x q b) y = count hi h y.
Proof. intros. apply count_ext. intros. unfold upd. now rewrite H. Qed.
Lemma count_add : forall hi h x q, q <= hi -> h x q = false -> count hi (upd h x q true) x = S (count hi h x).
Proof.
  intros. rewrite !count_sumr.
  pose proof (sumr_change (fun z => if upd h x q true x z then 1 else 0) (fun z => if h x z then 1 else 0) q 0 (S hi) ltac:(lia)) as E.
  simpl in E. rewrite H0 in E. unfold upd in E at 3. rewrite teq_refl, Nat.eqb_refl in E. simpl in E.
  assert (forall y, y <> q -> (if upd h x q true x y then 1 else 0) = (if h x y then 1 else 0)).
  { intros. unfold upd. rewrite (proj2 (Nat.eqb_neq y q)) by lia. now rewrite andb_false_r. }
  specialize (E H1). lia.
Qed.
Lemma count_del : forall hi h x q, q <= hi -> h x q = true -> S (count hi (upd h x q false) x) = count hi h x.
Proof.
  intros. rewrite !count_sumr.
  pose proof (sumr_change (fun z => if upd h x q false x z then 1 else 0) (fun z => if h x z then 1 else 0) q 0 (S hi) ltac:(lia)) as E.
  simpl in E. rewrite H0 in E. unfold upd in E at 3. rewrite teq_refl, Nat.eqb_refl in E. simpl in E.
  assert (forall y, y <> q -> (if upd h x q false x y then 1 else 0) = (if h x y then 1 else 0)).
  { intros. unfold upd. rewrite (proj2 (Nat.eqb_neq y q)) by lia. now rewrite andb_false_r. }
  specialize (E H1). lia.
Qed.

Lemma cost_app : forall c l1 l2, cost c (l1 ++ l2) = cost c l1 + cost c l2.
Proof. induction l1; simpl; intros; auto. rewrite IHl1. lia. Qed.
Lemma execute_app : forall hi m l1 l2 s s1, execute hi m s l1 = Some s1 -> execute hi m s (l1 ++ l2) = execute hi m s1 l2.
Proof.
  induction l1 as [|a l1 IH]; simpl; intros. { now injection H as ->. }
  destruct (exec hi s a); try discriminate. destruct (fits hi m s0); try discriminate. auto.
Qed.

(* within the slots, by tier *)
Lemma fits_all : forall hi m s, (forall y, count hi (held s) y <= m y) -> fits hi m s = true.
Proof. intros. unfold fits. now rewrite !(proj2 (Nat.leb_le _ _)). Qed.

(* ---------------------------------------------------------------- plans are carried out *)

(* t steps from a can start: a is the working state, stored in tier x alone, nothing is stored above, and beside what is
   stored there is room for m slots, the start's own included *)
Definition Ready hi (M : slots) a x (m : slots) t s :=
  lft s = a + t /\ a + t <= hi /\ (1 <= t -> pos s = Some a) /\ core s = None /\
  held s x a = true /\ held s (other x) a = false /\ (forall y z, a < z -> held s y z = false) /\
  (forall y, count hi (held s) y + m y <= M y + (if teq y x then 1 else 0)).

(* m slots are enough to do any t steps at cost k, to drop the start, and to leave everything else as it was *)
Definition Solves c x m t k := forall hi M a s, Ready hi M a x m t s ->
  exists l s1, execute hi M s l = Some s1 /\ core s1 = None /\ lft s1 = a /\ cost c l = k /\
    (forall y z, z <> a -> held s1 y z = held s y z) /\ (forall y, held s1 y a = false).

(* a state with the same sets fits, if the start has its slot *)
Lemma ready_fits : forall hi M a x m t s w k n, Ready hi M a x m t s -> 1 <= m x -> fits hi M (mk w k (held s) n) = true.
Proof.
  intros hi M a x m t s w k n (_ & _ & _ & _ & _ & _ & _ & H) W. apply fits_all. simpl. intros y. specialize (H y).
  destruct (teq y x) eqn:T; [apply teq_true in T; subst|]; lia.
Qed.

Lemma solve_none : forall c x m, Solves c x m 0 0.
Proof.
  intros c x m hi M a [w k h n] (A & B & C & D & E & F & G & H). simpl in *. subst.
  exists [Drop x a], (mk w None (upd h x a false) (a + 0)). simpl. rewrite E. simpl.
  rewrite fits_all. 2: { simpl. intros y. specialize (H y). destruct (teq y x) eqn:T.
    - apply teq_true in T. subst y. pose proof (count_del hi h x a ltac:(lia) E). lia.
    - rewrite count_other by auto. lia. }
  repeat split; auto; try lia.
  - intros y z Hz. unfold upd. rewrite (proj2 (Nat.eqb_neq z a)) by lia. now rewrite andb_false_r.
  - intros y. unfold upd. rewrite Nat.eqb_refl, andb_true_r. destruct x, y; simpl in *; auto.
Qed.

(* store nothing: run to the last step, record it, backward, and go back to the start *)
Lemma solve_last : forall c x m t k, 1 <= m x -> Solves c x m t k ->
  Solves c x m (S t) (forward c * S t + (if t =? 0 then 0 else rd c x) + k).
Proof.
  intros c x m t k W IH hi M a s R. pose proof (fun w k n => ready_fits hi M a x m (S t) s w k n R W) as FIT.
  destruct R as (A & B & C & D & E & F & G & H). destruct s as [w q h n]. simpl in *. subst.
  destruct (IH hi M a (mk (if t =? 0 then None else Some a) None h (a + t))) as (l & s1 & L1 & L2 & L3 & L4 & L5 & L6).
  { repeat split; simpl; auto; try lia. intros. now rewrite (proj2 (Nat.eqb_neq t 0)) by lia. }
  simpl in L5. rewrite C by lia. destruct (Nat.eqb_spec t 0) as [->|N].
  - exists (Record a :: Backpropagate a :: l), s1. simpl. unfold guard, idle. simpl.
    rewrite Nat.eqb_refl, (proj2 (Nat.ltb_lt a hi)) by lia. simpl. rewrite FIT. unfold guard. simpl.
    rewrite !Nat.eqb_refl, (proj2 (Nat.eqb_eq (a + 1) (S a))) by lia. simpl. rewrite FIT.
    replace (a + 0) with a in L1 by lia. rewrite L1. repeat split; auto. lia.
  - exists (Advance a (a + t) :: Record (a + t) :: Backpropagate (a + t) :: Restore x a :: l), s1. simpl.
    unfold guard, idle. simpl.
    rewrite Nat.eqb_refl, (proj2 (Nat.ltb_lt a (a + t))), (proj2 (Nat.leb_le (a + t) hi)) by lia. simpl. rewrite FIT. simpl.
    unfold guard, idle. simpl. rewrite Nat.eqb_refl, (proj2 (Nat.ltb_lt (a + t) hi)) by lia. simpl. rewrite FIT. simpl.
    unfold guard. simpl. rewrite Nat.eqb_refl, (proj2 (Nat.eqb_eq (a + S t) (S (a + t)))) by lia. simpl. rewrite FIT. simpl.
    rewrite E. simpl. rewrite FIT, L1. repeat split; auto. rewrite L4. replace (a + t - a) with t by lia. lia.
Qed.

(* move the start to the other tier *)
Lemma solve_move : forall c x m t k, 1 <= t -> 1 <= m x -> 1 <= m (other x) -> Solves c (other x) m t k ->
  Solves c x m t (wr c (other x) + k).
Proof.
  intros c x m t k N W W' IH hi M a s R. destruct R as (A & B & C & D & E & F & G & H).
  destruct s as [w q h n]. simpl in *. rewrite C in * by auto. subst.
  set (h1 := upd h (other x) a true). set (h2 := upd h1 x a false).
  destruct (teq_other x) as (T1 & T2).
  assert (C1 : forall y, count hi h1 y = count hi h y + (if teq y (other x) then 1 else 0)).
  { intros y. unfold h1. destruct (teq y (other x)) eqn:T; [apply teq_true in T; subst y|].
    - rewrite count_add by (auto; lia). lia.
    - rewrite count_other by auto. lia. }
  assert (E1 : h1 x a = true) by (unfold h1, upd; rewrite T2; auto).
  assert (C2 : forall y, count hi h2 y + (if teq y x then 1 else 0) = count hi h1 y).
  { intros y. unfold h2. destruct (teq y x) eqn:T; [apply teq_true in T; subst y|].
    - pose proof (count_del hi h1 x a ltac:(lia) E1). lia.
    - rewrite count_other by auto. lia. }
  assert (F1 : forall w k n, fits hi M (mk w k h1 n) = true).
  { intros. apply fits_all. simpl. intros y. rewrite C1. specialize (H y).
    destruct x, y; simpl in *; lia. }
  assert (F2 : forall w k n, fits hi M (mk w k h2 n) = true).
  { intros. apply fits_all. simpl. intros y. specialize (C2 y). rewrite C1 in C2. specialize (H y).
    destruct x, y; simpl in *; lia. }
  destruct (IH hi M a (mk (Some a) None h2 (a + t))) as (l & s1 & L1 & L2 & L3 & L4 & L5 & L6).
  { repeat split; simpl; auto; try lia.
    - unfold h2, h1, upd. rewrite T1, teq_refl, Nat.eqb_refl. auto.
    - destruct x; simpl; unfold h2, h1, upd; simpl; now rewrite Nat.eqb_refl.
    - intros y z Hz. unfold h2, h1, upd. rewrite (proj2 (Nat.eqb_neq z a)), !andb_false_r by lia. auto.
    - intros y. specialize (C2 y). rewrite C1 in C2. specialize (H y). destruct x, y; simpl in *; lia. }
  exists (Store (other x) a :: Drop x a :: l), s1. simpl. unfold guard, idle. simpl.
  rewrite Nat.eqb_refl, F. simpl. fold h1. rewrite F1. unfold guard. simpl. rewrite E1. fold h2. rewrite F2, L1.
  repeat split; auto.
  intros y z Hz. rewrite L5 by auto. simpl. unfold h2, h1, upd. rewrite (proj2 (Nat.eqb_neq z a)), !andb_false_r by lia. auto.
Qed.

(* run y steps, store the state there in tier x', do the right part, go back, do the left part *)
Lemma solve_cut : forall c x m x' y t k1 k2, 1 <= m x -> 1 <= y < t -> 1 <= less m x x' ->
  Solves c x' (less m x) (t - y) k2 -> Solves c x m y k1 ->
  Solves c x m t (forward c * y + rd c x + k1 + (wr c x' + k2)).
Proof.
  intros c x m x' y t k1 k2 W Hy W' IR IL hi M a s R.
  pose proof (fun w k n => ready_fits hi M a x m t s w k n R W) as FIT.
  destruct R as (A & B & C & D & E & F & G & H).
  destruct s as [w q h n]. simpl in *. rewrite C in * by lia. subst.
  set (b := a + y). set (h1 := upd h x' b true).
  assert (Gb : forall z, h z b = false) by (intros; apply G; unfold b; lia).
  assert (C1 : forall z, count hi h1 z = count hi h z + (if teq z x' then 1 else 0)).
  { intros z. unfold h1. destruct (teq z x') eqn:T; [apply teq_true in T; subst z|].
    - rewrite count_add by (auto; unfold b; lia). lia.
    - rewrite count_other by auto. lia. }
  assert (F1 : forall w k n, fits hi M (mk w k h1 n) = true).
  { intros. apply fits_all. simpl. intros z. rewrite C1. specialize (H z). unfold less in W'.
    destruct x, x', z; simpl in *; lia. }
  destruct (IR hi M b (mk (Some b) None h1 (a + t))) as (l1 & s1 & L1 & L2 & L3 & L4 & L5 & L6).
  { repeat split; simpl; auto; try (unfold b; lia).
    - unfold h1, upd. now rewrite teq_refl, Nat.eqb_refl.
    - destruct x'; simpl; unfold h1, upd; simpl; auto.
    - intros z p Hp. unfold h1, upd. rewrite (proj2 (Nat.eqb_neq p b)), andb_false_r by lia. apply G. unfold b in *. lia.
    - intros z. rewrite C1. specialize (H z). unfold less. destruct (teq z x) eqn:T; [apply teq_true in T; subst z|]; lia. }
  simpl in L5. destruct s1 as [w1 q1 h2 n1]. simpl in *. subst q1 n1.
  assert (S2 : forall z p, h2 z p = h z p).
  { intros z p. destruct (Nat.eq_dec p b) as [->|N]. { now rewrite L6, Gb. }
    rewrite L5 by auto. unfold h1, upd. rewrite (proj2 (Nat.eqb_neq p b)), andb_false_r by lia. auto. }
  assert (C2 : forall z, count hi h2 z = count hi h z) by (intros; apply count_ext; auto).
  assert (F2 : forall w k n, fits hi M (mk w k h2 n) = true).
  { intros. apply fits_all. simpl. intros z. rewrite C2. specialize (H z). destruct (teq z x) eqn:T; [apply teq_true in T; subst z|]; lia. }
  destruct (IL hi M a (mk (Some a) None h2 b)) as (l2 & s2 & K1 & K2 & K3 & K4 & K5 & K6).
  { repeat split; simpl; auto; try (unfold b; lia).
    - now rewrite S2.
    - now rewrite S2.
    - intros z p Hp. rewrite S2. auto.
    - intros z. rewrite C2. auto. }
  simpl in K5.
  exists (Advance a b :: Store x' b :: l1 ++ Restore x a :: l2), s2. simpl. unfold guard, idle. simpl.
  rewrite Nat.eqb_refl, (proj2 (Nat.ltb_lt a b)), (proj2 (Nat.leb_le b hi)) by (unfold b; lia). simpl. rewrite FIT.
  unfold guard, idle. simpl. rewrite Nat.eqb_refl, Gb. simpl. fold h1. rewrite F1, (execute_app _ _ _ _ _ _ L1). simpl.
  unfold guard, idle. simpl. rewrite S2, E. simpl. rewrite F2, K1. repeat split; auto.
  - rewrite cost_app, L4. simpl. rewrite K4. replace (b - a) with y by (unfold b; lia). lia.
  - intros z p Hp. now rewrite K5, S2 by auto.
Qed.

(* a plan of some steps has a slot for its start *)
Lemma plan_slot : forall c x m t k, plan c x m t k -> 1 <= t -> 1 <= m x.
Proof. induction 1; auto; lia. Qed.

(* every plan is carried out *)
Theorem plan_solves : forall c x m t k, plan c x m t k -> Solves c x m t k.
Proof.
  induction 1.
  - apply solve_none.
  - now apply solve_last.
  - apply solve_cut; auto. apply plan_slot in H1; auto. lia.
  - now apply solve_move.
Qed.

Lemma count_init : forall hi x y, count hi (held (init x hi)) y = if teq y x then 1 else 0.
Proof.
  intros. rewrite count_sumr, (sumr_at _ 0 0 (S hi)) by lia. simpl.
  rewrite !sumr_zero by (intros; rewrite ?andb_false_r; cases; rewrite andb_false_r; auto). rewrite andb_true_r. lia.
Qed.

(* For all t, slots, prices and both tiers to start in: every plan's cost is the cost of a complete schedule. *)
Theorem plan_reached : forall c x m t k, plan c x m t k -> 1 <= t ->
  exists l, complete x m t l = true /\ cost c l = k.
Proof.
  intros c x m t k P Ht. destruct (plan_solves c x m t k P t m 0 (init x t)) as (l & s1 & L1 & L2 & L3 & L4 & L5 & L6).
  { unfold Ready. simpl. rewrite teq_refl. destruct (teq_other x) as (T1 & T2). rewrite T1. repeat split; auto.
    - intros y z Hz. rewrite (proj2 (Nat.eqb_neq z 0)) by lia. apply andb_false_r.
    - intros y. change (fun y z => teq y x && (z =? 0)) with (held (init x t)). rewrite count_init. lia. }
  exists l. split; auto. unfold complete. rewrite L1, L3. simpl.
  assert (Z : forall y, count t (held s1) y = 0).
  { intros y. rewrite count_sumr. apply sumr_zero. intros z _. destruct (Nat.eq_dec z 0) as [->|N]. { now rewrite L6. }
    rewrite L5 by auto. simpl. rewrite (proj2 (Nat.eqb_neq z 0)), andb_false_r by lia. auto. }
  now rewrite !Z.
Qed.
