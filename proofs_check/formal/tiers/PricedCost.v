(* Hidden states in one tier whose writes and reads have prices: what each action costs below a position and from it on,
   and how restarts and passes are counted against one another. *)
From Membptt Require Import Laws Policies Projection Cut Hsm.

(* the prices of a forward, a write, a read *)
Structure prices := Prices { forward : nat; write : nat; read : nat }.

(* a sum over the actions of a run *)
Fixpoint tot (g : act -> nat) (l : trace) := match l with [] => 0 | (x, _) :: r => g x + tot g r end.
(* over two runs *)
Lemma tot_app : forall g l1 l2, tot g (l1 ++ l2) = tot g l1 + tot g l2.
Proof. induction l1 as [|[x s] l1 IH]; simpl; intros; auto. rewrite IH. lia. Qed.

(* no internal state is stored *)
Definition NI s := forall p, int s p = false.

(* which stays so where hidden states are all that can be *)
Lemma NI_step : forall hi s x s1, NI s -> step HSM hi s x s1 -> NI s1.
Proof. unfold NI. inversion 2; subst; simpl in *; auto; try discriminate; try congruence. Qed.

(* the actions that are possible then *)
Ltac inv T NIs := inversion T; subst; simpl in *; try discriminate;
  try (match goal with H : ?i ?p = true |- _ => unfold NI in NIs; simpl in NIs; rewrite NIs in H; discriminate end).

(* the prices at hand *)
Existing Class prices.

Section Priced.
Context {c : prices}.
Notation fw := (forward c). Notation w := (write c). Notation r := (read c).

(* what an action costs *)
Definition pr x := match x with
  | Advance p q => fw * (q - p) | Record _ => fw | StoreHidden _ => w | Restore _ => r | _ => 0 end.
(* its part below v, and its part from v on *)
Definition lc v x := match x with
  | Advance p q => fw * (Nat.min q v - p) | Record p => if p <? v then fw else 0
  | StoreHidden q => if q <? v then w else 0 | Restore q => if q <? v then r else 0 | _ => 0 end.
(* what it costs from v on *)
Definition rc v x := match x with
  | Advance p q => fw * (q - Nat.max p v) | Record p => if p <? v then 0 else fw
  | StoreHidden q => if q <? v then 0 else w | Restore q => if q <? v then 0 else r | _ => 0 end.
(* an arrival from below at v or beyond; a restart below v, from v on; a store at v; a backward below v *)
Definition ps v x := match x with Advance p q => if (p <? v) && (v <=? q) then 1 else 0 | _ => 0 end.
(* restarts below v *)
Definition lres v x := match x with Restore q => if q <? v then 1 else 0 | _ => 0 end.
(* restarts from v on *)
Definition rres v x := match x with Restore q => if q <? v then 0 else 1 | _ => 0 end.
(* stores of v *)
Definition stv v x := match x with StoreHidden q => if q =? v then 1 else 0 | _ => 0 end.
(* steps below v taken backward *)
Definition bk v x := match x with Backpropagate p => if p <? v then 1 else 0 | _ => 0 end.

(* the working state, or the core, is below v *)
Definition low v s := match core s with Some p => if p <? v then 1 else 0
  | None => match pos s with Some q => if q <? v then 1 else 0 | None => 0 end end.
(* the working state is one of v .. hi-1 *)
Definition mid v hi s := match core s with Some _ => 0
  | None => match pos s with Some q => if (v <=? q) && (q <? hi) then 1 else 0 | None => 0 end end.
(* the two parts of a cost *)
Lemma parts : forall hi s x s1 v, NI s -> step HSM hi s x s1 -> lc v x + rc v x = pr x.
Proof.
  intros hi s x s1 v N T. inv T N; cases. rewrite <- Nat.mul_add_distr_l. f_equal. lia.
Qed.
(* over a run *)
Lemma parts_run : forall l m hi s v, NI s -> run HSM hi m s l -> tot (lc v) l + tot (rc v) l = tot pr l.
Proof.
  induction l as [|[x s1] l IH]; simpl; intros; auto. destruct H0 as (T & _ & R).
  pose proof (parts _ _ _ _ v H T). pose proof (IH _ _ _ v (NI_step _ _ _ _ H T) R). lia.
Qed.
(* evaluations and restarts below v are paid below v *)
Lemma left_pays : forall l a v, fw * ev a v l + r * tot (lres v) l <= tot (lc v) l.
Proof.
  induction l as [|[x s1] l IH]; simpl; intros; [lia|]. specialize (IH a v).
  assert (fw * evi a v x + r * lres v x <= lc v x); [|lia].
  unfold evi, lc, lres. destruct x; simpl; try lia.
  - rewrite Nat.mul_0_r, Nat.add_0_r. apply Nat.mul_le_mono_l. lia.
  - rewrite Nat.mul_0_r, Nat.add_0_r. destruct (Nat.ltb_spec p v).
    + replace fw with (fw * 1) at 2 by lia. apply Nat.mul_le_mono_l. lia.
    + replace (Nat.min (S p) v - Nat.max p a) with 0 by lia. lia.
  - destruct (q <? v); lia.
Qed.

(* every arrival at v and every backward below v needs a restart below v of its own, but for the first *)
Lemma segments : forall l m hi s v, NI s -> run HSM hi m s l ->
  tot (ps v) l + tot (bk v) l + low v (fin s l) <= tot (lres v) l + low v s.
Proof.
  induction l as [|[x s1] l IH]; simpl; intros; auto. destruct H0 as (T & _ & R).
  specialize (IH _ _ _ v (NI_step _ _ _ _ H T) R).
  assert (ps v x + bk v x + low v s1 <= lres v x + low v s); [|lia]. clear IH R.
  unfold low. inv T H; cases.
Qed.
(* every arrival at the end needs an arrival at v or a restart from v on of its own *)
Lemma segments_right : forall l m hi s v, NI s -> run HSM hi m s l -> v <= hi ->
  tot (ps hi) l + mid v hi (fin s l) <= tot (rres v) l + tot (ps v) l + mid v hi s.
Proof.
  induction l as [|[x s1] l IH]; simpl; intros; auto. destruct H0 as (T & _ & R).
  specialize (IH _ _ _ v (NI_step _ _ _ _ H T) R H1).
  assert (ps hi x + mid v hi s1 <= rres v x + ps v x + mid v hi s); [|lia]. clear IH R.
  unfold mid. inv T H; cases.
Qed.
(* what is restarted and stored from v on is paid there *)
Lemma right_pays : forall l v, w * tot (stv v) l + r * tot (rres v) l <= tot (rc v) l.
Proof.
  induction l as [|[x s1] l IH]; simpl; intros; [lia|]. specialize (IH v).
  assert (w * stv v x + r * rres v x <= rc v x); [|lia].
  unfold stv, rc, rres. destruct x; simpl; rewrite ?Nat.mul_0_r; try lia.
  - apply Nat.le_0_l.
  - destruct (Nat.eqb_spec q v), (Nat.ltb_spec q v); lia.
  - destruct (Nat.ltb_spec q v); lia.
Qed.
(* a step below v goes backward *)
Lemma backs : forall l m hi s v, run HSM hi m s l -> v <= lft s -> lft (fin s l) < v -> 1 <= tot (bk v) l.
Proof.
  induction l as [|[x s1] l IH]; simpl; intros; [lia|]. destruct H as (T & _ & R).
  destruct (le_lt_dec v (lft s1)). { specialize (IH _ _ _ v R l0 H1). lia. }
  inversion T; subst; simpl in *; try lia. cases.
Qed.
End Priced.
