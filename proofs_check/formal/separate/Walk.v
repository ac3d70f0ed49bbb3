(* WALK: a small machine that can do at least what the machine of Machine.v can under the policy SEPARATE (Follow.v
   shows that), and its basic laws.

   A cursor walks over positions; every position has a level: 0 nothing stored, 1 its hidden state,
     2 or more the internal
   state of the step that ends there.  [lft] steps are not yet backward.  One action runs at most one step. *)
From Membptt Require Export Counting Size.

Section Walk.
Context {size : Size}.

(* the slots of a level *)
Definition wt (k : nat) : nat := match k with 0 => 0 | 1 => 1 | _ => alpha end.
(* slots taken by the positions a .. b-1, f their levels *)
Definition room (f : nat -> nat) a b := sumr (fun x => wt (f x)) a b.

(* the cursor, the levels, the steps not yet backward *)
Structure st := mk { cur : option nat; lev : nat -> nat; lft : nat }.

(* the actions, each with the step that it runs, if it runs one *)
Inductive step : st -> option nat -> st -> Prop :=
| Run : forall f g q k n, q < n -> (forall x, g x = if x =? S q then k else f x) ->
    step (mk (Some q) f n) (Some q) (mk (Some (S q)) g n)
      (* run step q, store anything (or nothing) behind it *)
| RunBack : forall f p, step (mk (Some p) f (S p)) (Some p) (mk None f p)  (* run the last step and take it backward *)
| LoadBack : forall c f p, 2 <= f (S p) -> step (mk c f (S p)) None (mk None f p)  (* take a stored one backward *)
| Get : forall c f n q, 1 <= f q -> step (mk c f n) None (mk (Some q) f n)
| Put : forall c f g n q k, k <= f q \/ (k <= 1 /\ c = Some q) -> (forall x, g x = if x =? q then k else f x) ->
    step (mk c f n) None (mk c g n).
      (* lower a level, or store the cursor's hidden state *)

(* within m slots *)
Definition cap m hi s := room (lev s) 0 (S hi) <= m.
(* actions, each with the state it leads to *)
Definition trace := list (option nat * st).
(* follow the rules, within m slots *)
Fixpoint run m hi (s : st) (l : trace) : Prop :=
  match l with [] => True | (e, s1) :: r => step s e s1 /\ cap m hi s1 /\ run m hi s1 r end.
(* the last state *)
Fixpoint fin (s : st) (l : trace) : st := match l with [] => s | (_, s1) :: r => fin s1 r end.
(* runs of the steps a .. b-1 *)
Definition evi a b (e : option nat) := match e with Some q => if (a <=? q) && (q <? b) then 1 else 0 | None => 0 end.
(* by a whole trace *)
Fixpoint ev a b (l : trace) : nat := match l with [] => 0 | (e, _) :: r => evi a b e + ev a b r end.
(* the walk at position a, that state stored, with the steps from a to hi to do *)
Definition init a hi := mk (Some a) (fun x => if x =? a then 1 else 0) hi.

(* ---- counting slots: a sum over positions splits, grows with the levels, and holds each of its terms ---- *)
Lemma wt_mono : forall j k, j <= k -> wt j <= wt k.
Proof. pose proof alpha2. intros. destruct j as [|[|j]], k as [|[|k]]; simpl; lia. Qed.
(* in two parts *)
Lemma room_split : forall f a b c, a <= b <= c -> room f a c = room f a b + room f b c.
Proof. intros. unfold room. apply sumr_split. auto. Qed.
(* higher levels, more slots *)
Lemma room_le : forall f g a b, (forall x, a <= x < b -> wt (f x) <= wt (g x)) -> room f a b <= room g a b.
Proof. intros. apply sumr_le. auto. Qed.
(* equal levels, as many *)
Lemma room_ext : forall f g a b, (forall x, a <= x < b -> f x = g x) -> room f a b = room g a b.
Proof. intros. unfold room. apply sumr_ext. intros. now rewrite H. Qed.
(* one position *)
Lemma room_one : forall f a, room f a (S a) = wt (f a).
Proof. intros. unfold room. apply (sumr_one (fun x => wt (f x))). Qed.
(* no position takes more than all *)
Lemma room_pt : forall f a x b, a <= x < b -> wt (f x) <= room f a b.
Proof. intros. rewrite (room_split f a x b), (room_split f x (S x) b), room_one by lia. lia. Qed.
(* nor do two *)
Lemma room_two : forall f a x y b, a <= x < y -> y < b -> wt (f x) + wt (f y) <= room f a b.
Proof. intros. rewrite (room_split f a y b) by lia. pose proof (room_pt f a x y). pose proof (room_pt f y y b). lia.
Qed.
(* nothing stored, nothing taken *)
Lemma room_zero : forall f a b, (forall x, a <= x < b -> f x = 0) -> room f a b = 0.
Proof. intros. unfold room. apply sumr_zero. intros. now rewrite H. Qed.

(* ---- traces: runs, last states and counts of two traces put together; a count splits at any step; steps left fall
   ---- *)
Lemma run_app : forall l1 l2 m hi s, run m hi s (l1 ++ l2) <-> run m hi s l1 /\ run m hi (fin s l1) l2.
Proof. induction l1 as [| [e s1] l1]; simpl; intros. tauto. rewrite IHl1. tauto. Qed.
(* the last state of two traces *)
Lemma fin_app : forall l1 l2 s, fin s (l1 ++ l2) = fin (fin s l1) l2.
Proof. induction l1 as [| [e s1] l1]; simpl; auto. Qed.
(* their runs *)
Lemma ev_app : forall l1 l2 a b, ev a b (l1 ++ l2) = ev a b l1 + ev a b l2.
Proof. induction l1 as [| [e s1] l1]; simpl; intros; auto. rewrite IHl1. lia. Qed.
(* one action, cut at v *)
Lemma evi_cut : forall e a v b, a <= v <= b -> evi a b e = evi a v e + evi v b e.
Proof. intros [q|] a v b H; unfold evi; auto. cases. Qed.
(* a trace, cut at v *)
Lemma ev_cut : forall l a v b, a <= v <= b -> ev a b l = ev a v l + ev v b l.
Proof. induction l as [| [e s1] l]; simpl; intros; auto. rewrite (IHl a v b), (evi_cut e a v b) by lia. lia. Qed.
(* one action *)
Lemma lft_step : forall s e s1, step s e s1 -> lft s1 <= lft s.
Proof. inversion 1; simpl; lia. Qed.
(* a trace *)
Lemma lft_run : forall l m hi s, run m hi s l -> lft (fin s l) <= lft s.
Proof.
  induction l as [| [e s1] l]; simpl; intros; auto. destruct H as (A & _ & C).
  apply lft_step in A. apply IHl in C. lia.
Qed.
(* the levels of a changed map are those of the old one but for one place *)
Ltac open := match goal with H : forall x, ?g x = (if x =? ?q then _ else _), G : context [?g ?y] |- _ =>
  rewrite (H y) in G; destruct (Nat.eqb_spec y q); [try subst | idtac] end.

(* Frontier: a position that is stored, or the cursor's, has been run to. *)
Definition Inv a v K s :=
  (forall q, 1 <= lev s q -> a <= q /\ Nat.min q v <= a + K) /\
  (forall q, cur s = Some q -> a <= q /\ Nat.min q v <= a + K).
(* One action moves the frontier by what it runs. *)
Lemma Inv_step : forall a v K s e s1, Inv a v K s -> step s e s1 -> Inv a v (K + evi a v e) s1.
Proof.
  intros a v K s e s1 (A & B) T. inversion T; subst; simpl in *; unfold Inv; simpl; split; intros y Hy; inj.
  - open. + specialize (B q eq_refl). cases. + apply A in Hy. lia.
  - specialize (B q eq_refl). cases.
  - apply A in Hy. lia.
  - apply A in Hy. lia.
  - apply A in Hy. lia.
  - apply A in H. lia.
  - open; [|apply A in Hy; lia]. destruct H as [H|[H E]].
    + assert (Q : 1 <= f q) by lia. apply A in Q. lia.
    + apply B in E. lia.
  - apply B in Hy. lia.
Qed.
(* The frontier moves with what is run, over a whole trace; at the start it is at a. *)
Lemma Inv_run : forall l a v K m hi s, Inv a v K s -> run m hi s l -> Inv a v (K + ev a v l) (fin s l).
Proof.
  induction l as [| [e s1] l]; simpl; intros. now rewrite Nat.add_0_r.
  destruct H0 as (A & _ & C). rewrite Nat.add_assoc. apply IHl with m hi; auto. eapply Inv_step; eauto.
Qed.
(* at the start *)
Lemma Inv_init : forall a v hi, Inv a v 0 (init a hi).
Proof. unfold Inv, init; simpl; split; intros y H; inj; [|lia]. revert H. cases. Qed.

(* Nothing below v is stored, nor is the cursor there: no step below v runs any more. *)
Lemma no_run : forall l a v m hi s, (forall q, 1 <= lev s q -> v <= q) -> (forall q, cur s = Some q -> v <= q) ->
  run m hi s l -> ev a v l = 0.
Proof.
  induction l as [| [e s1] l]; simpl; intros a v m hi s A B R; auto. destruct R as (T & _ & R).
  assert (evi a v e = 0 /\ (forall q, 1 <= lev s1 q -> v <= q) /\ (forall q, cur s1 = Some q ->
    v <= q)) as (E & A1 & B1).
  { inversion T; subst; simpl in *; (split; [|split; intros y Hy; inj]); auto.
    all: try (specialize (B _ eq_refl)); try (revert B; cases; fail); try lia; try (open; auto; lia).
    open; auto. destruct H as [H|[H E]]; [|auto]. apply A. lia. }
  rewrite E, (IHl a v m hi s1); auto.
Qed.

(* A step that has gone backward does not run again. *)
Lemma done_no_run : forall l p m hi s, lft s <= p -> run m hi s l -> ev p (S p) l = 0.
Proof.
  induction l as [| [e s1] l]; simpl; intros p m hi s A R; auto. destruct R as (T & _ & R).
  rewrite (IHl p m hi s1); auto. 2: { apply lft_step in T. lia. }
  inversion T; subst; simpl in *; cases.
Qed.

(* A step that goes backward without running again has its internal state stored now. *)
Lemma stay : forall l p m hi s, run m hi s l -> ev p (S p) l = 0 -> p < lft s -> lft (fin s l) <= p -> 2 <= lev s (S p).
Proof.
  induction l as [| [e s1] l]; simpl; intros p m hi s R E Hp Hf. lia. destruct R as (T & _ & R).
  assert (E1 : evi p (S p) e = 0) by lia. assert (E2 : ev p (S p) l = 0) by lia.
  destruct (le_lt_dec (lft s1) p) as [Hd|Hd].
  - inversion T; subst; simpl in *; try lia.
    + assert (p0 = p) by lia. subst. revert E1. cases.
    + assert (p0 = p) by lia. subst. auto.
  - specialize (IHl p m hi s1 R E2 Hd Hf). inversion T; subst; simpl in *; auto.
    + open; auto. injection e as ->. revert E1. cases.
    + open; auto. destruct H as [H|[H _]]; lia.
Qed.
(* A rise of the slots taken from v on puts the cursor at v or beyond. *)
Lemma rise : forall s e s1 v hi, step s e s1 -> room (lev s) v (S hi) < room (lev s1) v (S hi) ->
  exists q, cur s1 = Some q /\ v <= q.
Proof.
  intros s e s1 v hi T H. inversion T; subst; simpl in *; try lia.
  - exists (S q). split; auto. destruct (le_lt_dec v (S q)); auto. exfalso.
    rewrite (room_ext g f v (S hi)) in H. lia. intros y Hy. rewrite H1. cases.
  - destruct H0 as [H0|[H0 ->]].
    + exfalso. assert (room g v (S hi) <= room f v (S hi)); [|lia].
      apply room_le. intros y _. rewrite H1. cases. apply wt_mono. subst. auto.
    + exists q. split; auto. destruct (le_lt_dec v q); auto. exfalso.
      rewrite (room_ext g f v (S hi)) in H. lia. intros y Hy. rewrite H1. cases.
Qed.
(* So where the slots from v on reach c, they did so by a store at v or beyond: at that instant the cursor is there. *)
Lemma crossing : forall k1 s m hi v c, run m hi s k1 -> room (lev s) v (S hi) < c ->
  c <= room (lev (fin s k1)) v (S hi) ->
  exists l1 l2, k1 = l1 ++ l2 /\ l1 <> [] /\ c <= room (lev (fin s l1)) v (S hi) /\
    exists q, cur (fin s l1) = Some q /\ v <= q.
Proof.
  induction k1 as [| [e s1] k1]; simpl; intros s m hi v c R A B. lia. destruct R as (T & _ & R).
  destruct (le_lt_dec c (room (lev s1) v (S hi))) as [D|D].
  - exists [(e, s1)], k1. simpl. repeat split; auto; try discriminate. apply (rise s e s1 v hi); auto; lia.
  - destruct (IHk1 s1 m hi v c R D B) as (l1 & l2 & -> & N & Q & Z).
    exists ((e, s1) :: l1), l2. simpl. repeat split; auto. discriminate.
Qed.
End Walk.
Ltac open := match goal with H : forall x, ?g x = (if x =? ?q then _ else _), G : context [?g ?y] |- _ =>
  rewrite (H y) in G; destruct (Nat.eqb_spec y q); [try subst | idtac] end.
