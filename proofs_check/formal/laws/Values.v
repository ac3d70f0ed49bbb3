(* What the recurrences of HSM, ISM and (10) obey: their equations without fuel, their cuts, one more slot costs
   nothing. *)
From Membptt Require Export Laws Policies Recurrences.

(* ---------------------------------------------------------------- t (t + 1) / 2 *)

(* the next triangular number *)
Lemma triangle : forall t, S t * (S t + 1) / 2 = S t + t * (t + 1) / 2.
Proof. intros. replace (S t * (S t + 1)) with (t * (t + 1) + S t * 2) by ring. rewrite Nat.div_add by lia. lia. Qed.

(* ---------------------------------------------------------------- HSM *)

(* enough fuel is enough *)
Lemma hsm_fuel : forall f t m, t + m <= f -> hsm_ f t m = hsm t m.
Proof.
  unfold hsm. assert (A : forall f f' t m, t + m <= f -> t + m <= f' -> hsm_ f t m = hsm_ f' t m); [|intros; apply A;
    lia].
  induction f; intros f' t m H H'.
  - destruct f'; auto. replace t with 0 by lia. reflexivity.
  - destruct f'. { replace t with 0 by lia. reflexivity. }
    simpl. destruct (Nat.leb_spec t 1); auto. destruct (Nat.leb_spec m 1); auto.
    apply least_ext. intros y Hy. rewrite (IHf f' y m), (IHf f' (t - y) (m - 1)) by lia. auto.
Qed.
(* (1) and the two boundaries *)
Lemma hsm_no_step : forall m, hsm 0 m = 0.
Proof. intros. destruct m; reflexivity. Qed.
(* (1) *)
Lemma hsm_one_step : forall m, hsm 1 m = 1.
Proof. reflexivity. Qed.
(* one slot *)
Lemma hsm_one_slot : forall t, hsm t 1 = t * (t + 1) / 2.
Proof. intros. destruct t; auto. destruct t; auto. Qed.
(* (3) *)
Lemma hsm_cuts : forall t m, 2 <= t -> 2 <= m -> hsm t m = least (t - 1) (fun y => y + hsm y m + hsm (t - y) (m - 1)).
Proof.
  intros. unfold hsm at 1. destruct (t + m) eqn:E; [lia|]. simpl.
  rewrite (proj2 (Nat.leb_gt t 1)), (proj2 (Nat.leb_gt m 1)) by lia.
  apply least_ext. intros y Hy. rewrite !hsm_fuel by lia. auto.
Qed.
(* one slot, step by step *)
Lemma hsm_one_slot_S : forall t, hsm (S t) 1 = S t + hsm t 1.
Proof. intros. rewrite !hsm_one_slot. apply triangle. Qed.
(* one more slot costs nothing *)
Lemma hsm_slot : forall m t, 1 <= m -> hsm t (S m) <= hsm t m.
Proof.
  induction m as [|m IHm]; intros t Hm; [lia|]. induction t as [t IH] using lt_wf_ind.
  destruct (le_lt_dec t 1). { destruct t. rewrite !hsm_no_step; auto. replace t with 0 by lia. rewrite !hsm_one_step;
    auto. }
  rewrite hsm_cuts by lia. destruct m.
  - rewrite hsm_one_slot. pose proof (least_le (t - 1) (fun y =>
      y + hsm y 2 + hsm (t - y) (2 - 1)) (t - 1) ltac:(lia)) as L.
    simpl in L. replace (t - (t - 1)) with 1 in L by lia. rewrite hsm_one_step in L.
    specialize (IH (t - 1) ltac:(lia)). rewrite hsm_one_slot in IH. destruct t; [lia|]. rewrite triangle.
    replace (S t - 1) with t in * by lia. change (S (S 0) - 1) with 1 in *. lia.
  - rewrite hsm_cuts by lia. apply least_ge; [lia|]. intros y Hy.
    pose proof (least_le (t - 1) (fun y => y + hsm y (S (S (S m))) + hsm (t - y) (S (S (S m)) - 1)) y Hy) as L.
    simpl in L.
    specialize (IH y ltac:(lia)). specialize (IHm (t - y) ltac:(lia)).
    replace (S (S (S m)) - 1) with (S (S m)) in * by lia. replace (S (S m) - 1) with (S m) in * by lia. lia.
Qed.
(* (2) *)
Lemma hsm_many_slots : forall t m, 1 <= t <= m -> hsm t m = 2 * t - 1.
Proof.
  assert (G : forall t m, 1 <= t -> 2 * t - 1 <= hsm t m \/ m = 0).
  { induction t as [t IH] using lt_wf_ind. intros m Ht. destruct m; auto. left.
    destruct (Nat.eq_dec t 1) as [->|]; auto. destruct m.
    - rewrite hsm_one_slot. pose proof (Nat.div_le_lower_bound (t * (t + 1)) 2 (2 * t - 1) ltac:(lia)). apply H. nia.
    - rewrite hsm_cuts by lia. apply least_ge; [lia|]. intros y Hy.
      destruct (IH y ltac:(lia) (S (S m)) ltac:(lia)); [|lia].
      destruct (IH (t - y) ltac:(lia) (S m) ltac:(lia)); [|lia].
      replace (S (S m) - 1) with (S m) by lia. lia. }
  intros t. induction t as [|t IH]; intros m H; [lia|]. destruct (Nat.eq_dec t 0) as [->|]; [reflexivity|].
  apply Nat.le_antisymm. 2: destruct (G (S t) m); lia.
  rewrite hsm_cuts by lia. eapply Nat.le_trans; [apply (least_le _ _ 1); lia|]. cbv beta.
  replace (S t - 1) with t by lia. rewrite hsm_one_step, IH by lia. lia.
Qed.

(* ---------------------------------------------------------------- ISM *)

(* enough fuel is enough *)
Lemma ism_fuel : forall f t m, t + m <= f -> ism_ f t m = ism t m.
Proof.
  unfold ism. assert (A : forall f f' t m, t + m <= f -> t + m <= f' -> ism_ f t m = ism_ f' t m); [|intros; apply A;
    lia].
  induction f; intros f' t m H H'.
  - destruct f'; auto. replace t with 0 by lia. reflexivity.
  - destruct f'. { replace t with 0 by lia. reflexivity. }
    simpl. destruct (Nat.eqb_spec t 0); auto. destruct (Nat.leb_spec m 1); auto.
    apply least_ext. intros y Hy. rewrite (IHf f' (y - 1) m), (IHf f' (t - y) (m - 1)) by lia. auto.
Qed.
(* (4) and its boundaries *)
Lemma ism_no_step : forall m, ism 0 m = 0.
Proof. intros. destruct m; reflexivity. Qed.
(* one slot *)
Lemma ism_one_slot : forall t, ism t 1 = t * (t + 1) / 2.
Proof. intros. destruct t; auto. Qed.
(* (5) *)
Lemma ism_cuts : forall t m, 1 <= t -> 2 <= m -> ism t m = least t (fun y => y + ism (y - 1) m + ism (t - y) (m - 1)).
Proof.
  intros. unfold ism at 1. destruct (t + m) eqn:E; [lia|]. simpl.
  rewrite (proj2 (Nat.eqb_neq t 0)), (proj2 (Nat.leb_gt m 1)) by lia.
  apply least_ext. intros y Hy. rewrite !ism_fuel by lia. auto.
Qed.
(* one slot, step by step *)
Lemma ism_one_slot_S : forall t, ism (S t) 1 = S t + ism t 1.
Proof. intros. rewrite !ism_one_slot. apply triangle. Qed.
(* one more slot costs nothing *)
Lemma ism_slot : forall m t, 1 <= m -> ism t (S m) <= ism t m.
Proof.
  induction m as [|m IHm]; intros t Hm; [lia|]. induction t as [t IH] using lt_wf_ind.
  destruct (Nat.eq_dec t 0) as [->|Ht]. { rewrite !ism_no_step; auto. }
  rewrite ism_cuts by lia. destruct m.
  - pose proof (least_le t (fun y => y + ism (y - 1) 2 + ism (t - y) (2 - 1)) t ltac:(lia)) as L.
    simpl in L. rewrite Nat.sub_diag, ism_no_step in L. specialize (IH (t - 1) ltac:(lia)).
    destruct t; [lia|]. rewrite ism_one_slot_S. replace (S t - 1) with t in * by lia.
    change (S (S 0) - 1) with 1 in *. lia.
  - rewrite ism_cuts by lia. apply least_ge; [lia|]. intros y Hy.
    pose proof (least_le t (fun y => y + ism (y - 1) (S (S (S m))) + ism (t - y) (S (S (S m)) - 1)) y Hy) as L.
    simpl in L.
    specialize (IH (y - 1) ltac:(lia)). specialize (IHm (t - y) ltac:(lia)).
    replace (S (S (S m)) - 1) with (S (S m)) in * by lia. replace (S (S m) - 1) with (S m) in * by lia. lia.
Qed.

(* ---------------------------------------------------------------- (10) *)

Section Shared.
Variable alpha : nat.
Hypothesis alpha_2 : 2 <= alpha.
Notation C := (shared alpha).

(* enough fuel is enough *)
Lemma shared_fuel : forall f t m, t + m <= f -> shared_ alpha f t m = C t m.
Proof.
  unfold shared. assert (A : forall f f' t m, t + m <= f -> t + m <= f' -> shared_ alpha f t m = shared_ alpha f' t m);
    [|intros; apply A; lia].
  induction f; intros f' t m H H'.
  - destruct f'; auto. replace t with 0 by lia. reflexivity.
  - destruct f'. { replace t with 0 by lia. reflexivity. }
    simpl. destruct (Nat.leb_spec t 1); auto. destruct (Nat.leb_spec m 1); auto.
    rewrite (IHf f' (t - 1) (m - (alpha - 1))) by lia.
    rewrite (least_ext (t - 1) (fun y => y + shared_ alpha f y m + shared_ alpha f (t - y) (m - 1))
                               (fun y => y + shared_ alpha f' y m + shared_ alpha f' (t - y) (m - 1))).
    rewrite (least_ext (t - 1) (fun z => S (z + shared_ alpha f z m + shared_ alpha f (t - S z) (m - alpha)))
                               (fun z => S (z + shared_ alpha f' z m + shared_ alpha f' (t - S z) (m - alpha)))). auto.
    all: intros y Hy; rewrite (IHf f' y m) by lia.
    + rewrite (IHf f' (t - S y) (m - alpha)) by lia. auto.
    + rewrite (IHf f' (t - y) (m - 1)) by lia. auto.
Qed.
(* no step *)
Lemma shared_no_step : forall m, C 0 m = 0.
Proof. intros. destruct m; reflexivity. Qed.
(* one step *)
Lemma shared_one_step : forall m, C 1 m = 1.
Proof. reflexivity. Qed.
(* one slot *)
Lemma shared_one_slot : forall t, C t 1 = t * (t + 1) / 2.
Proof. intros. destruct t; auto. destruct t; auto. Qed.
(* one slot, step by step *)
Lemma shared_one_slot_S : forall t, C (S t) 1 = S t + C t 1.
Proof. intros. rewrite !shared_one_slot. apply triangle. Qed.

(* (10) itself *)
Lemma shared_cuts : forall t m, 2 <= t -> 2 <= m -> C t m =
  let hidden := least (t - 1) (fun y => y + C y m + C (t - y) (m - 1)) in
  let known := if alpha <=? m then Nat.min hidden (1 + C (t - 1) (m - (alpha - 1))) else hidden in
  if alpha <? m then Nat.min known (least (t - 1) (fun z => S z + C z m + C (t - S z) (m - alpha))) else known.
Proof.
  intros. unfold shared at 1. destruct (t + m) eqn:E; [lia|]. cbn [shared_].
  rewrite (proj2 (Nat.leb_gt t 1)), (proj2 (Nat.leb_gt m 1)) by lia.
  rewrite (shared_fuel n (t - 1) (m - (alpha - 1))) by lia. cbv zeta.
  rewrite (least_ext (t - 1) (fun y => y + shared_ alpha n y m + shared_ alpha n (t - y) (m - 1))
                             (fun y => y + C y m + C (t - y) (m - 1))) by (intros; rewrite !shared_fuel by lia; auto).
  rewrite (least_ext (t - 1) (fun z => S z + shared_ alpha n z m + shared_ alpha n (t - S z) (m - alpha))
                             (fun z => S z + C z m + C (t - S z) (m - alpha))) by (intros;
                               rewrite !shared_fuel by lia; auto).
  auto.
Qed.
(* each cut is an upper bound *)
Lemma shared_hidden : forall t m y, 2 <= m -> 1 <= y < t -> C t m <= y + C y m + C (t - y) (m - 1).
Proof.
  intros. rewrite shared_cuts by lia. cbv zeta.
  pose proof (least_le (t - 1) (fun y => y + C y m + C (t - y) (m - 1)) y ltac:(lia)) as L. cbv beta in L.
  destruct (alpha <=? m), (alpha <? m); lia.
Qed.
(* the cut at step 1, whose input is stored *)
Lemma shared_known : forall t m, alpha <= m -> 2 <= t -> C t m <= 1 + C (t - 1) (m - (alpha - 1)).
Proof.
  intros. rewrite shared_cuts by lia. cbv zeta. rewrite (proj2 (Nat.leb_le alpha m)) by lia. destruct (alpha <? m); lia.
Qed.
(* the cuts at later steps *)
Lemma shared_later : forall t m y, alpha < m -> 2 <= y <= t -> C t m <= y + C (y - 1) m + C (t - y) (m - alpha).
Proof.
  intros. rewrite shared_cuts by lia. cbv zeta. rewrite (proj2 (Nat.ltb_lt alpha m)) by lia.
  pose proof (least_le (t - 1) (fun z => S z + C z m + C (t - S z) (m - alpha)) (y - 1) ltac:(lia)) as L. cbv beta in L.
  replace (S (y - 1)) with y in L by lia. destruct (alpha <=? m); lia.
Qed.
(* and one of them is it *)
Lemma shared_attained : forall t m, 2 <= t -> 2 <= m ->
  (exists y, 1 <= y < t /\ C t m = y + C y m + C (t - y) (m - 1)) \/
  (alpha <= m /\ C t m = 1 + C 0 m + C (t - 1) (m - (alpha - 1))) \/
  (exists y, alpha < m /\ 2 <= y <= t /\ C t m = y + C (y - 1) m + C (t - y) (m - alpha)).
Proof.
  intros. rewrite shared_cuts by lia. cbv zeta. rewrite shared_no_step.
  destruct (least_in (t - 1) (fun y => y + C y m + C (t - y) (m - 1)) ltac:(lia)) as (y & Hy & E).
  destruct (least_in (t - 1) (fun z => S z + C z m + C (t - S z) (m - alpha)) ltac:(lia)) as (z & Hz & E').
  set (A := least (t - 1) (fun y => y + C y m + C (t - y) (m - 1))) in *.
  set (B := least (t - 1) (fun z => S z + C z m + C (t - S z) (m - alpha))) in *.
  assert (HA : exists y, 1 <= y < t /\ A = y + C y m + C (t - y) (m - 1)) by (exists y; split; auto; lia).
  assert (HB : exists y, 2 <= y <= t /\ B = y + C (y - 1) m + C (t - y) (m - alpha)).
  { exists (S z). replace (S z - 1) with z by lia. split; [lia | exact E']. }
  destruct (Nat.leb_spec alpha m), (Nat.ltb_spec alpha m); try lia; auto.
  - destruct (le_lt_dec (Nat.min A (1 + C (t - 1) (m - (alpha - 1)))) B) as [L|L].
    + rewrite (Nat.min_l _ B) by lia. destruct (le_lt_dec A (1 + C (t - 1) (m - (alpha - 1)))).
      * rewrite Nat.min_l by lia. auto.
      * rewrite Nat.min_r by lia. right; left. split; lia.
    + rewrite Nat.min_r by lia. right; right. destruct HB as (b & HB1 & HB2). exists b. auto.
  - destruct (le_lt_dec A (1 + C (t - 1) (m - (alpha - 1)))).
    + rewrite Nat.min_l by lia. auto.
    + rewrite Nat.min_r by lia. right; left. split; lia.
Qed.
(* one more slot costs nothing *)
Lemma shared_slot : forall m t, 1 <= m -> C t (S m) <= C t m.
Proof.
  induction m as [m IHm] using lt_wf_ind. intros t Hm. induction t as [t IH] using lt_wf_ind.
  destruct (le_lt_dec t 1). { destruct t. rewrite !shared_no_step; auto. replace t with 0 by
    lia. rewrite !shared_one_step; auto. }
  destruct (Nat.eq_dec m 1) as [->|Hm1].
  - pose proof (shared_hidden t 2 (t - 1) ltac:(lia) ltac:(lia)) as L. replace (t - (t - 1)) with 1 in L by lia.
    rewrite shared_one_step in L. specialize (IH (t - 1) ltac:(lia)). destruct t; [lia|]. rewrite shared_one_slot_S.
    replace (S t - 1) with t in * by lia. lia.
  - destruct (shared_attained t m ltac:(lia) ltac:(lia)) as [(y & Hy & E)|[(Ha & E)|(y & Ha & Hy & E)]]; rewrite E.
    + pose proof (shared_hidden t (S m) y ltac:(lia) Hy) as L. specialize (IH y ltac:(lia)).
      pose proof (IHm (m - 1) ltac:(lia) (t - y) ltac:(lia)) as L2. replace (S (m - 1)) with (S m - 1) in L2 by lia.
      lia.
    + pose proof (shared_known t (S m) ltac:(lia) ltac:(lia)) as L.
      pose proof (IHm (m - (alpha - 1)) ltac:(lia) (t - 1) ltac:(lia)) as L2.
      replace (S (m - (alpha - 1))) with (S m - (alpha - 1)) in L2 by lia. lia.
    + pose proof (shared_later t (S m) y ltac:(lia) Hy) as L. specialize (IH (y - 1) ltac:(lia)).
      pose proof (IHm (m - alpha) ltac:(lia) (t - y) ltac:(lia)) as L2.
      replace (S (m - alpha)) with (S m - alpha) in L2 by lia. lia.
Qed.
End Shared.
