(* (10) with beta = alpha - 1 at two forwards a step: the longest t is S(m) + 2, S(m) = ceil(1 / beta) + ... + ceil(m /
   beta). With shared_exact, no legal schedule that counts every tensor once does more. *)
From Membptt Require Import Laws Values Shared Chen.
Arguments Nat.div : simpl never.
Arguments Nat.mul : simpl nomatch.

Section CostTwo.
Variable alpha : nat.
Hypothesis alpha_2 : 2 <= alpha.
Notation C := (shared alpha).
Notation beta := (alpha - 1).
Notation S_ := (ceilings beta).
(* ceil(m / beta) *)
Definition c m := (m + beta - 1) / beta.

(* one more beta, one more *)
Lemma c_more : forall m, beta <= m -> c m = 1 + c (m - beta).
Proof. intros m H. unfold c. replace (m + beta - 1) with (m - beta + beta - 1 + 1 * beta) by lia.
rewrite Nat.div_add by lia. lia. Qed.
(* it grows with m *)
Lemma c_mono : forall m n, m <= n -> c m <= c n.
Proof. intros. unfold c. apply Nat.div_le_mono; lia. Qed.
(* it is at least 1 *)
Lemma c_pos : forall m, 1 <= m -> 1 <= c m.
Proof. intros. unfold c. apply Nat.div_le_lower_bound; lia. Qed.
(* and 2 from alpha slots on *)
Lemma c_two : forall m, alpha <= m -> 2 <= c m.
Proof. intros m H. rewrite c_more by lia. pose proof (c_pos (m - beta) ltac:(lia)). lia. Qed.
(* S(m) slot by slot *)
Lemma S_S : forall m, S_ (S m) = S_ m + c (S m).
Proof. reflexivity. Qed.
(* it grows with m *)
Lemma S_mono : forall m n, m <= n -> S_ m <= S_ n.
Proof. induction 1; auto. rewrite S_S. lia. Qed.
(* the last term of S(m) *)
Lemma S_last : forall m, 1 <= m -> S_ m = S_ (m - 1) + c m.
Proof. intros [|m] H; [lia|]. rewrite S_S. now replace (S m - 1) with m by lia. Qed.

(* slope 1 *)
Lemma line_1 : forall n t m, t + m <= n -> 1 <= m -> t <= C t m.
Proof.
  induction n; intros t m Hn Hm; [lia|]. destruct (le_lt_dec t 1) as [T|T].
  { destruct t. lia. replace t with 0 by lia. rewrite shared_one_step. auto. }
  destruct (Nat.eq_dec m 1) as [->|M].
  { destruct t; [lia|]. rewrite shared_one_slot_S. lia. }
  destruct (shared_attained alpha alpha_2 t m ltac:(lia) ltac:(lia)) as [(y & Hy & ->)|[(Ha & ->)|(y & Ha & Hy & ->)]].
  - pose proof (IHn (t - y) (m - 1)). lia.
  - pose proof (IHn (t - 1) (m - beta)). lia.
  - pose proof (IHn (t - y) (m - alpha)). lia.
Qed.
(* slope 2 *)
Lemma line_2 : forall n t m, t + m <= n -> 1 <= m -> 2 * t <= C t m + c m.
Proof.
  induction n; intros t m Hn Hm; [lia|]. pose proof (c_pos m Hm) as P. destruct (le_lt_dec t 1) as [T|T].
  { destruct t. lia. replace t with 0 by lia. rewrite shared_one_step. lia. }
  destruct (Nat.eq_dec m 1) as [->|M].
  { destruct t; [lia|]. rewrite shared_one_slot_S. pose proof (line_1 _ t 1 (le_n _)). lia. }
  destruct (shared_attained alpha alpha_2 t m ltac:(lia) ltac:(lia)) as [(y & Hy & ->)|[(Ha & ->)|(y & Ha & Hy & ->)]].
  - pose proof (IHn (t - y) (m - 1)). pose proof (line_1 _ y m (le_n _)). pose proof (c_mono (m - 1) m). lia.
  - pose proof (IHn (t - 1) (m - beta)). pose proof (c_more m). lia.
  - pose proof (IHn (t - y) (m - alpha)). pose proof (line_1 _ (y - 1) m (le_n _)). pose proof (c_more m).
    pose proof (c_mono (m - alpha) (m - beta)). lia.
Qed.
(* slope 3 *)
Lemma line_3 : forall n t m, t + m <= n -> 1 <= m -> 3 * t <= C t m + S_ m + 2.
Proof.
  induction n; intros t m Hn Hm; [lia|]. pose proof (S_last m Hm) as L. pose proof (c_pos m Hm) as P.
  destruct (le_lt_dec t 1) as [T|T].
  { destruct t. lia. replace t with 0 by lia. rewrite shared_one_step. lia. }
  destruct (Nat.eq_dec m 1) as [->|M].
  { destruct t; [lia|]. rewrite shared_one_slot_S. pose proof (line_2 _ t 1 (le_n _) Hm) as Q.
    assert (c 1 = 1) by (unfold c; replace (1 + beta - 1) with (1 * beta) by lia; apply Nat.div_mul; lia). lia. }
  destruct (shared_attained alpha alpha_2 t m ltac:(lia) ltac:(lia)) as [(y & Hy & ->)|[(Ha & ->)|(y & Ha & Hy & ->)]].
  - pose proof (IHn (t - y) (m - 1)). pose proof (line_2 _ y m (le_n _)). lia.
  - pose proof (IHn (t - 1) (m - beta)). pose proof (c_two m). pose proof (S_mono (m - beta) (m - 1)). lia.
  - pose proof (IHn (t - y) (m - alpha)). pose proof (line_2 _ (y - 1) m (le_n _)). pose proof (c_two (m - 1)).
    pose proof (S_last (m - 1)). pose proof (S_mono (m - alpha) (m - 1 - 1)). lia.
Qed.

(* up to ceil(m / beta) steps, each runs once *)
Lemma flat : forall m, 1 <= m -> forall t, t <= c m -> C t m <= t.
Proof.
  induction m as [m IH] using lt_wf_ind. intros Hm t Ht. destruct (le_lt_dec t 1) as [T|T].
  { destruct t. { rewrite shared_no_step. auto. } replace t with 0 by lia. rewrite shared_one_step. auto.
      } assert (alpha <= m).
  { destruct (le_lt_dec alpha m); auto. exfalso. assert (c m <= c beta) by (apply c_mono; lia).
    assert (c beta = 1); [|lia]. rewrite c_more by lia. rewrite Nat.sub_diag. unfold c. rewrite Nat.div_small; lia. }
  pose proof (shared_known alpha alpha_2 t m ltac:(lia) ltac:(lia)).
  pose proof (IH (m - beta) ltac:(lia) ltac:(lia) (t - 1)).
  pose proof (c_more m). lia.
Qed.
(* up to S(m) + 2 steps, two forwards a step are enough *)
Lemma enough : forall m, 1 <= m -> forall t, t <= S_ m + 2 -> C t m <= 2 * t.
Proof.
  induction m as [|m IH]; intros Hm t Ht; [lia|]. destruct (Nat.eq_dec m 0) as [->|M].
  { assert (S_ 1 = 1). { rewrite S_S. unfold c. replace (1 + beta - 1) with (1 * beta) by lia.
      rewrite Nat.div_mul by lia. reflexivity. }
    destruct t as [|[|[|[|t]]]]; [| | | |lia]; rewrite ?shared_one_slot_S, shared_one_slot; vm_compute; lia. }
  destruct (le_lt_dec t (S_ m + 2)) as [L|L].
  { pose proof (IH ltac:(lia) t L). pose proof (shared_slot alpha alpha_2 m t ltac:(lia)). lia. }
  rewrite S_S in Ht. set (y := t - (S_ m + 2)) in *. assert (Hy : 1 <= y < t) by (unfold y; lia).
  pose proof (shared_hidden alpha alpha_2 t (S m) y ltac:(lia) Hy) as Q. replace (S m - 1) with m in Q by lia.
  pose proof (flat (S m) Hm y ltac:(unfold y; lia)). pose proof (IH ltac:(lia) (t - y) ltac:(unfold y; lia)). lia.
Qed.
(* the recurrence takes at most 2t exactly up to S(m) + 2 steps *)
Theorem shared_cost_two : forall t m, 1 <= m -> (C t m <= 2 * t <-> t <= S_ m + 2).
Proof.
  intros t m Hm. split; [|apply enough; auto]. intro H. pose proof (line_3 _ t m (le_n _) Hm). lia.
Qed.
(* every legal schedule *)
Theorem any_shared_cost_two : forall t m, 1 <= m ->
  ((exists l, legal (SHARED alpha) m t l = true /\ cost l <= 2 * t) <-> t <= S_ m + 2).
Proof.
  intros t m Hm. rewrite <- shared_cost_two by auto.
  destruct (shared_exact alpha alpha_2 t m Hm) as ((l & A & B) & D). split.
  - intros (s & P & Q). specialize (D s P). lia.
  - intros Q. exists l. split; auto. lia.
Qed.
End CostTwo.
