(* The recurrence of tiers.py as a function (proofs_check/membptt_proofs/tiers_oracle.py: naive_tiers), None for
   infeasible: it is the least cost of a plan. *)
From Membptt Require Import Counting Tiers TiersReached.

(* the smaller of two costs *)
Definition omin (a b : option nat) := match a, b with Some x, Some y => Some (Nat.min x y) | Some x,
  None => Some x | None, b => b end.
(* a cost more *)
Definition oplus k (a : option nat) := match a with Some x => Some (k + x) | None => None end.
(* two costs *)
Definition osum (a b : option nat) := match a with Some x => oplus x b | None => None end.
(* the least of q 1, ..., q n *)
Fixpoint oleast n (q : nat -> option nat) := match n with 0 => None | S k => omin (q n) (oleast k q) end.

Section Value.
Variable c : prices.
(* the start stays in tier x until something goes backward; v: the values for fewer steps *)
Definition stay (v : tier -> slots -> nat -> option nat) x (m : slots) t :=
  if m x =? 0 then None else
  omin (oplus (forward c * t + (if t =? 1 then 0 else rd c x)) (v x m (t - 1)))
       (oleast (t - 1) (fun y => osum (oplus (forward c * y + rd c x) (v x m y))
          (omin (v Fast (less m x) (t - y)) (oplus (write c) (v Slow (less m x) (t - y)))))).
(* n: at least the steps *)
Fixpoint value n x m t := match t, n with
  | 0, _ => Some 0 | _, 0 => None
  | _, S n' => if m x =? 0 then None else
      omin (stay (value n') x m t) (oplus (wr c (other x)) (stay (value n') (other x) m t)) end.

(* the smaller is no larger than either *)
Lemma omin_le : forall a b k, (exists i, a = Some i /\ i <= k) \/ (exists i, b = Some i /\ i <= k) -> exists i,
  omin a b = Some i /\ i <= k.
Proof.
  intros [x|] [y|] k [(i & E & L)|(i & E & L)]; try discriminate; injection E as <-; simpl; eexists; split; eauto; lia.
Qed.
(* and one of them *)
Lemma omin_in : forall a b k, omin a b = Some k -> a = Some k \/ b = Some k.
Proof. intros [x|] [y|] k H; simpl in H; injection H as H || discriminate; subst; auto.
destruct (Nat.min_dec x y) as [->| ->]; auto. Qed.
(* the least is one of them *)
Lemma oleast_in : forall n q k, oleast n q = Some k -> exists y, 1 <= y <= n /\ q y = Some k.
Proof.
  induction n as [|n IH]; simpl; intros; [discriminate|]. apply omin_in in H. destruct H as [H|H].
  - exists (S n). split; auto. lia.
  - destruct (IH _ _ H) as (y & A & B). exists y. split; auto. lia.
Qed.
(* and no larger than any *)
Lemma oleast_le : forall n q y k, 1 <= y <= n -> (exists i, q y = Some i /\ i <= k) ->
  exists i, oleast n q = Some i /\ i <= k.
Proof.
  induction n as [|n IH]; simpl; intros; [lia|]. apply omin_le. destruct (Nat.eq_dec y (S n)) as [->|]; auto.
  right. apply (IH q y); auto. lia.
Qed.
(* where a sum is feasible, so is its part *)
Lemma oplus_in : forall k a i, oplus k a = Some i -> exists j, a = Some j /\ i = k + j.
Proof. intros k [j|] i H; simpl in H; [injection H as <-; eauto | discriminate]. Qed.
(* and so are both parts *)
Lemma osum_in : forall a b i, osum a b = Some i -> exists j k, a = Some j /\ b = Some k /\ i = j + k.
Proof. intros [j|] b i H; simpl in H; [|discriminate]. apply oplus_in in H. destruct H as (k & -> & ->). eauto. Qed.

(* every value is the cost of a plan *)
Lemma stay_plan : forall v x m t k, (forall x m u j, u < t -> v x m u = Some j -> plan c x m u j) -> 1 <= t ->
  stay v x m t = Some k -> 1 <= m x /\ plan c x m t k.
Proof.
  intros v x m t k V Ht H. unfold stay in H. destruct (Nat.eqb_spec (m x) 0); [discriminate|]. split; [lia|].
  apply omin_in in H. destruct H as [H|H].
  - apply oplus_in in H. destruct H as (j & Hj & ->). apply V in Hj; [|lia].
    replace t with (S (t - 1)) at 1 2 by lia. replace (t =? 1) with (t - 1 =? 0) by (destruct (Nat.eqb_spec (t - 1) 0),
      (Nat.eqb_spec t 1); auto; lia).
    apply p_last; auto. lia.
  - apply oleast_in in H. destruct H as (y & Hy & H). apply osum_in in H. destruct H as (j & i & Hj & Hi & ->).
    apply oplus_in in Hj. destruct Hj as (j' & Hj & ->). apply V in Hj; [|lia]. apply omin_in in Hi.
    destruct Hi as [Hi|Hi].
    + apply V in Hi; [|lia]. apply (p_cut c x m Fast y t j' i); auto; lia.
    + apply oplus_in in Hi. destruct Hi as (i' & Hi & ->). apply V in Hi; [|lia].
      apply (p_cut c x m Slow y t j' i'); auto; lia.
Qed.
(* for every number of steps *)
Theorem value_plan : forall n x m t k, value n x m t = Some k -> plan c x m t k.
Proof.
  induction n as [|n IH]; intros x m [|t] k H; simpl in H; try discriminate; try (injection H as <-; constructor).
  destruct (Nat.eqb_spec (m x) 0); [discriminate|]. apply omin_in in H. destruct H as [H|H].
  - apply stay_plan in H; auto; try lia. tauto.
  - apply oplus_in in H. destruct H as (j & Hj & ->). apply stay_plan in Hj; auto; try lia.
    apply p_move; try lia; tauto.
Qed.

(* and no plan costs less *)
Lemma stay_least : forall n, (forall x m t k, plan c x m t k -> t <= n -> exists i, value n x m t = Some i /\ i <= k) ->
  forall x m t k, plan c x m t k -> 1 <= t -> t <= S n ->
    (exists i, stay (value n) x m t = Some i /\ i <= k) \/
    (exists i, stay (value n) (other x) m t = Some i /\ wr c (other x) + i <= k).
Proof.
  intros n IHn x m t k P. induction P; intros Ht Hn; try lia.
  - left. unfold stay. rewrite (proj2 (Nat.eqb_neq (m x) 0)) by lia. apply omin_le. left.
    destruct (IHn x m t k P ltac:(lia)) as (i & E & L). replace (S t - 1) with t by lia. rewrite E. simpl oplus.
    eexists. split; [reflexivity|]. destruct (Nat.eqb_spec (S t) 1), (Nat.eqb_spec t 0); lia.
  - left. unfold stay. rewrite (proj2 (Nat.eqb_neq (m x) 0)) by lia. apply omin_le. right.
    apply (oleast_le _ _ y); [lia|].
    destruct (IHn x m y k1 P2 ltac:(lia)) as (i1 & E1 & G1). rewrite E1. simpl osum.
    destruct (IHn x' (less m x) (t - y) k2 P1 ltac:(lia)) as (i2 & E2 & G2).
    assert (O : exists i, omin (value n Fast (less m x) (t - y)) (oplus (write c) (value n Slow (less m x) (t - y))) =
      Some i /\ i <= wr c x' + k2).
    { apply omin_le. destruct x'; [left | right]; rewrite E2; simpl; eexists; split; try reflexivity; simpl; lia. }
    destruct O as (i & -> & G). simpl. eexists. split; [reflexivity|]. lia.
  - destruct (IHP Ht Hn) as [(i & E & G)|(i & E & G)].
    + right. exists i. split; auto. lia.
    + left. replace (other (other x)) with x in E by (destruct x; auto). exists i. split; auto. lia.
Qed.
(* for every number of steps *)
Theorem value_least : forall n x m t k, plan c x m t k -> t <= n -> exists i, value n x m t = Some i /\ i <= k.
Proof.
  induction n as [|n IH]; intros x m t k P Hn.
  - replace t with 0 by lia. simpl. exists 0. split; auto. lia.
  - destruct t. { simpl. exists 0. split; auto. lia. }
    pose proof (plan_slot _ _ _ _ _ P ltac:(lia)) as S. cbn [value]. rewrite (proj2 (Nat.eqb_neq (m x) 0)) by lia.
    apply omin_le. destruct (stay_least n IH x m _ k P ltac:(lia) Hn) as [(i & E & G)|(i & E & G)]; [left;
      eauto | right].
    rewrite E. simpl. eexists. split; [reflexivity|]. lia.
Qed.
End Value.
