(* The recurrences of HSM and ISM in closed form, and the relation between them. With the exact theorems: the least cost
   over all legal schedules, in closed form. *)
From Membptt Require Import Laws Values Hsm Ism.

(* the binomial coefficient *)
Fixpoint bin n k := match n, k with _, 0 => 1 | 0, S _ => 0 | S n', S k' => bin n' k' + bin n' k end.

(* beta m r = binomial(m + r, m + 1), by Pascal's rule *)
Fixpoint beta (m : nat) : nat -> nat :=
  match m with
  | 0 => fun r => r
  | S m' => fix g r := match r with 0 => 0 | S r' => g r' + beta m' (S r') end
  end.
(* its first column *)
Lemma beta_m0 : forall m, beta m 0 = 0. Proof. destruct m; reflexivity. Qed.
(* Pascal's rule *)
Lemma beta_SS : forall m r, beta (S m) (S r) = beta (S m) r + beta m (S r). Proof. reflexivity. Qed.
(* binomial(n, k) = 0 for n < k *)
Lemma bin_lt : forall n k, n < k -> bin n k = 0.
Proof. induction n; destruct k; simpl; intros; try lia. rewrite !IHn by lia. lia. Qed.
(* binomial(n, 1) = n *)
Lemma bin_1 : forall n, bin n 1 = n.
Proof. induction n; simpl; auto. rewrite IHn. destruct n; simpl; lia. Qed.
(* beta is a binomial coefficient *)
Lemma beta_bin : forall m r, beta m r = bin (m + r) (S m).
Proof.
  induction m; intros. simpl. now rewrite bin_1.
  induction r. rewrite beta_m0. rewrite bin_lt; lia.
  rewrite beta_SS, IHr, IHm. replace (S m + S r) with (S (m + S r)) by lia. replace (S m + r) with (m + S r) by lia.
  change (bin (S (m + S r)) (S (S m))) with (bin (m + S r) (S m) + bin (m + S r) (S (S m))). lia.
Qed.
(* beta m r is at least r *)
Lemma beta_ge : forall m r, r <= beta m r.
Proof. induction m; intros. simpl; lia. destruct r. lia. rewrite beta_SS. specialize (IHm (S r)). lia. Qed.
(* it grows with r *)
Lemma beta_up : forall m r, beta m r <= beta m (S r).
Proof. destruct m; intros. simpl; lia. rewrite beta_SS. lia. Qed.
(* its second column *)
Lemma beta_1 : forall m, beta m 1 = 1.
Proof. induction m; auto. Qed.
(* its second row: r (r + 1) / 2 *)
Lemma beta_1_r : forall r, 2 * beta 1 r = r * (r + 1).
Proof. induction r; auto. rewrite beta_SS. simpl (beta 0 _). lia. Qed.

(* ---------------------------------------------------------------- HSM *)

(* every line of the envelope lies below the recurrence *)
Lemma hsm_above_lines : forall m, 1 <= m -> forall t r, S r * t <= hsm t m + beta m r.
Proof.
  induction m as [|m IHm]; intros Hm t; [lia|]. induction t as [t IH] using lt_wf_ind. intro r.
  destruct (Nat.eq_dec t 0) as [->|]. { lia. }
  destruct (Nat.eq_dec t 1) as [->|]. { rewrite hsm_one_step. pose proof (beta_ge (S m) r). lia. }
  destruct m.
  - (* one slot *)
    destruct t; [lia|]. rewrite hsm_one_slot_S. destruct r; [lia|]. rewrite beta_SS. simpl (beta 0 _).
    specialize (IH t ltac:(lia) r). lia.
  - rewrite hsm_cuts by lia. replace (S (S m) - 1) with (S m) by lia.
    destruct (least_in (t - 1) (fun y => y + hsm y (S (S m)) + hsm (t - y) (S m)) ltac:(lia)) as (y & Hy & E).
    rewrite E.
    pose proof (IHm ltac:(lia) (t - y) r) as R. destruct r.
    + pose proof (IH y ltac:(lia) 0) as L. rewrite beta_m0 in *. lia.
    + pose proof (IH y ltac:(lia) r) as L. rewrite beta_SS.
      assert (Q : S (S r) * t = y + S r * y + S (S r) * (t - y)) by nia. lia.
Qed.

(* and on its own stretch a line is reached *)
Lemma hsm_on_line : forall m t r, beta m r <= t <= beta m (S r) -> S r * t = hsm t (S m) + beta (S m) r.
Proof.
  intros m t r H. apply Nat.le_antisymm; [apply hsm_above_lines; lia|]. revert t r H.
  induction m as [|m IHm]; intros t; induction t as [t IH] using lt_wf_ind; intros r H.
  - simpl (beta 0 _) in H. rewrite hsm_one_slot. pose proof (beta_1_r r) as B.
    assert (t = r \/ t = S r) as [->| ->] by lia.
    + replace (r * (r + 1)) with (beta 1 r * 2) by lia. rewrite Nat.div_mul by lia. lia.
    + rewrite triangle. replace (r * (r + 1)) with (beta 1 r * 2) by lia. rewrite Nat.div_mul by lia. lia.
  - destruct (Nat.eq_dec t 0) as [->|]. { rewrite hsm_no_step. pose proof (beta_ge (S m) r). assert (r = 0) by
      lia. subst. rewrite beta_m0. lia. }
    destruct (Nat.eq_dec t 1) as [->|].
    { rewrite hsm_one_step. pose proof (beta_ge (S m) r). assert (r = 0 \/ r = 1) as [->| ->] by lia.
      - rewrite beta_m0. lia.
      - rewrite beta_1. lia. }
    destruct r. { rewrite beta_1 in H. lia. }
    rewrite !beta_SS in H. pose proof (beta_ge (S m) (S r)) as G1. pose proof (beta_ge m (S r)) as G2.
    rewrite beta_SS in G1.
    (* the cut: both parts on their stretches *)
    assert (Y : exists y, 1 <= y < t /\ beta (S m) r <= y <= beta (S m) r + beta m (S r) /\
                          beta m (S r) <= t - y <= beta m (S (S r))).
    { exists (Nat.max (Nat.max 1 (beta (S m) r)) (t - beta m (S (S r)))).
      pose proof (beta_ge m (S (S r))). pose proof (beta_ge (S m) r).
      pose proof (beta_m0 (S m)). pose proof (beta_1 m).
      pose proof (beta_up m (S r)). destruct r; lia. }
    destruct Y as (y & Y1 & Y2 & Y3).
    rewrite hsm_cuts by lia. pose proof (least_le (t - 1) (fun y =>
      y + hsm y (S (S m)) + hsm (t - y) (S (S m) - 1)) y ltac:(lia)) as L.
    cbv beta in L. replace (S (S m) - 1) with (S m) in * by lia.
    pose proof (IH y ltac:(lia) r ltac:(rewrite beta_SS; lia)) as A. pose proof (IHm (t - y) (S r) Y3) as B.
    rewrite beta_SS. assert (Q : S (S r) * t = y + S r * y + S (S r) * (t - y)) by nia. lia.
Qed.

(* HSM: C(t, m) = (r + 1) t - binomial(m + r, m + 1) for binomial(m + r - 1, m) <= t <= binomial(m + r, m) *)
Theorem hsm_closed_form : forall t m r, 1 <= m -> bin (m + r - 1) m <= t <= bin (m + r) m ->
  hsm t m = (r + 1) * t - bin (m + r) (m + 1).
Proof.
  intros t m r Hm H. destruct m; [lia|]. pose proof (hsm_on_line m t r) as E. rewrite !beta_bin in E.
  replace (m + S r) with (S m + r) in E by lia. replace (S m + r - 1) with (m + r) in H by lia.
  specialize (E H). replace (S m + 1) with (S (S m)) by lia. lia.
Qed.

(* every number of steps is on some line *)
Lemma some_line : forall m t, 1 <= t -> exists r, beta m r <= t <= beta m (S r).
Proof.
  intros m t Ht. assert (G : forall n, t <= beta m (S n) -> exists r, beta m r <= t <= beta m (S r)).
  { induction n as [|n IH]; intros H. { exists 0. rewrite beta_m0. lia. }
    destruct (le_lt_dec t (beta m (S n))); auto. exists (S n). lia. }
  apply (G t). pose proof (beta_ge m (S t)). lia.
Qed.
(* HSM is convex in t: each step more costs no less than the one before *)
Theorem hsm_convex : forall t m, 1 <= m -> 2 * hsm (t + 1) m <= hsm t m + hsm (t + 2) m.
Proof.
  intros t m Hm. destruct m as [|m]; [lia|]. destruct (some_line m (t + 1) ltac:(lia)) as (r & R).
  pose proof (hsm_on_line m (t + 1) r R). pose proof (hsm_above_lines (S m) Hm t r).
  pose proof (hsm_above_lines (S m) Hm (t + 2) r). nia.
Qed.

(* ---------------------------------------------------------------- ISM *)

(* a constant moves out of a minimum *)
Lemma least_plus : forall n q c, 1 <= n -> least n (fun y => q y + c) = least n q + c.
Proof.
  intros. apply Nat.le_antisymm.
  - destruct (least_in n q H) as (y & A & B). rewrite B. apply (least_le n (fun y => q y + c)). auto.
  - apply least_ge; auto. intros y Hy. pose proof (least_le n q y Hy). lia.
Qed.

(* ISM of t steps is HSM of t + 1, less t + 1 *)
Theorem duality : forall m t, 1 <= m -> ism t m + (t + 1) = hsm (t + 1) m.
Proof.
  induction m as [|m IHm]; intros t Hm; [lia|]. induction t as [t IH] using lt_wf_ind.
  destruct (Nat.eq_dec t 0) as [->|]. { rewrite ism_no_step, hsm_one_step. auto. }
  destruct m. { rewrite ism_one_slot, hsm_one_slot. replace (t + 1) with (S t) at 3 4 by lia. rewrite triangle. lia. }
  rewrite ism_cuts, hsm_cuts by lia. rewrite <- least_plus by lia. replace (t + 1 - 1) with t by lia.
  apply least_ext. intros y Hy. replace (S (S m) - 1) with (S m) by lia.
  pose proof (IH (y - 1) ltac:(lia)) as A. pose proof (IHm (t - y) ltac:(lia)) as B.
  replace (y - 1 + 1) with y in A by lia. replace (t - y + 1) with (t + 1 - y) in B by lia. lia.
Qed.

(* ISM: C(t, m) = r (t + 1) - binomial(m + r, m + 1) for binomial(m + r - 1, m) <= t + 1 <= binomial(m + r, m) *)
Theorem ism_closed_form : forall t m r, 1 <= m -> bin (m + r - 1) m <= t + 1 <= bin (m + r) m ->
  ism t m = r * (t + 1) - bin (m + r) (m + 1).
Proof.
  intros t m r Hm H. pose proof (duality m t Hm) as D. destruct m; [lia|]. pose proof (hsm_on_line m (t + 1) r) as E.
  rewrite !beta_bin in E. replace (m + S r) with (S m + r) in E by lia. replace (S m + r - 1) with (m + r) in H by lia.
  specialize (E H). replace (S m + 1) with (S (S m)) by lia. lia.
Qed.

(* ISM is convex in t *)
Theorem ism_convex : forall t m, 1 <= m -> 2 * ism (t + 1) m <= ism t m + ism (t + 2) m.
Proof.
  intros t m Hm. pose proof (duality m t Hm). pose proof (duality m (t + 1) Hm). pose proof (duality m (t + 2) Hm).
  pose proof (hsm_convex (t + 1) m Hm) as Q. replace (t + 2 + 1) with (t + 1 + 2) in * by lia. lia.
Qed.

(* ---------------------------------------------------------------- the optimum in closed form *)

(* the least cost over all legal schedules of hidden states *)
Theorem hsm_optimum : forall t m r, 1 <= m -> bin (m + r - 1) m <= t <= bin (m + r) m ->
  (exists l, complete HSM m t l = true /\ cost l = (r + 1) * t - bin (m + r) (m + 1)) /\
  (forall l, legal HSM m t l = true -> (r + 1) * t - bin (m + r) (m + 1) <= cost l).
Proof. intros t m r Hm H. rewrite <- (hsm_closed_form t m r Hm H). apply hsm_exact. auto. Qed.

(* and of internal states, in m - 1 slots *)
Theorem ism_optimum : forall t m r, 1 <= m -> bin (m + r - 1) m <= t + 1 <= bin (m + r) m ->
  (exists l, complete ISM (m - 1) t l = true /\ cost l = r * (t + 1) - bin (m + r) (m + 1)) /\
  (forall l, legal ISM (m - 1) t l = true -> r * (t + 1) - bin (m + r) (m + 1) <= cost l).
Proof. intros t m r Hm H. rewrite <- (ism_closed_form t m r Hm H). apply ism_exact. auto. Qed.
