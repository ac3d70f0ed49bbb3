(* What every legal schedule with separate storage needs at a forwards a step; at two, Chen's own cost, exactly. *)
From Membptt Require Import TwoBranches Lines Longest.
Arguments Nat.div : simpl never.
Arguments Nat.modulo : simpl never.
Arguments Nat.mul : simpl nomatch.
Arguments Nat.pow : simpl never.

(* ceil(1 / alpha) + .. + ceil(n / alpha), and its closed form *)
Fixpoint ceilings (alpha n : nat) := match n with 0 => 0 | S k => ceilings alpha k + (n + alpha - 1) / alpha end.
Notation ceils := (ceilings alpha).

Section Chen.
Context {size : Size}.

(* Some legal stream of m slots (the start's included) backpropagates t steps with at most a t forwards. *)
Definition done_in (a t m : nat) := exists l, legal (SEPARATE alpha) m t l = true /\ cost l <= a * t.
(* exactly where P(t, m) is no more *)
Lemma done_in_V : forall a t m, 1 <= m -> (done_in a t m <-> V false t m <= a * t).
Proof.
  intros a t m Hm. split.
  - intros (l & P & C). pose proof (P_lower t m l Hm P). lia.
  - intro C. destruct (P_reached t m Hm) as (l & P & E). exists l. repeat split; auto. lia.
Qed.

(* ceil((n + 1) / alpha) *)
Lemma ceil_S : forall n, (S n + alpha - 1) / alpha = 1 + n / alpha.
Proof. pose proof alpha2. intro n. replace (S n + alpha - 1) with (n + 1 * alpha) by lia. rewrite Nat.div_add by lia.
lia. Qed.
(* in closed form *)
Theorem ceils_closed : forall n, 2 * alpha * ceils n = n * (n + alpha) + n mod alpha * (alpha - n mod alpha).
Proof.
  pose proof alpha2 as A. induction n. { rewrite Nat.mod_0_l by lia. simpl. lia. }
  cbn [ceilings]. rewrite ceil_S. rewrite Nat.mul_add_distr_l, IHn. clear IHn.
  pose proof (Nat.div_mod n alpha ltac:(lia)) as E. pose proof (Nat.mod_upper_bound n alpha ltac:(lia)) as B.
  set (q := n / alpha) in *. set (s := n mod alpha) in *.
  assert (2 * alpha * (1 + q) = 2 * (n - s) + 2 * alpha) by lia.
  destruct (Nat.eq_dec (S s) alpha) as [Z|Z].
  - assert (S n mod alpha = 0) as ->. { symmetry. apply Nat.mod_unique with (1 + q);
      lia. } replace (alpha - s) with 1 by lia. lia.
  - assert (S n mod alpha = S s) as ->. { symmetry. apply Nat.mod_unique with q; lia. }
    remember (alpha - S s) as d. assert (alpha = d + S s) by lia. replace (alpha - s) with (S d) by lia. lia.
Qed.
(* F_3(m) is S(m + 1) + 1 *)
Lemma F_three : forall m, 1 <= m -> F 3 m = ceils (S m) + 1.
Proof.
  pose proof alpha2. induction m; [lia|]. intros _. destruct (Nat.eq_dec m 0) as [->|N].
  { cbn [ceilings]. rewrite !ceil_S. rewrite !Nat.div_small by lia. reflexivity. }
  rewrite F_step by lia. replace (S m - 1) with m by lia. rewrite IHm by lia. change (3 - 1) with 2. rewrite F_two.
  change (ceils (S (S m))) with (ceils (S m) + (S (S m) + alpha - 1) / alpha). rewrite ceil_S. lia.
Qed.

(* 4 r d is at most the square of r + d *)
Lemma square : forall r d, 4 * (r * d) <= (r + d) * (r + d).
Proof.
  intros r d. destruct (le_lt_dec r d) as [H|H]; [remember (d - r) as e; assert (d = r + e) by
    lia | remember (r - d) as e; assert (r = d + e) by lia];
    subst; lia.
Qed.
(* The longest t at two forwards a step is ceils (m + 1) + 1. *)
Theorem msm_plus_cost_two : forall t m, 1 <= m -> (V false t m <= 2 * t <-> t <= ceils (m + 1) + 1).
Proof. intros t m Hm. replace (m + 1) with (S m) by lia. rewrite <- F_three by auto. apply longest_exact; simpl; lia.
Qed.
(* and so for every legal schedule *)
Theorem any_cost_two : forall t m, 1 <= m -> (done_in 2 t m <-> t <= ceils (m + 1) + 1).
Proof. intros. rewrite done_in_V by auto. apply msm_plus_cost_two; auto. Qed.
(* sqrt(2 alpha (t-1)) <= m + 1 + alpha / 2; and enough once sqrt(2 alpha (t-1) + alpha^2 / 4) <= m + 1 + alpha / 2 *)
Theorem any_cost_two_needs : forall t m l, 1 <= m -> legal (SEPARATE alpha) m t l = true -> cost l <= 2 * t ->
  8 * alpha * (t - 1) <= (2 * m + 2 + alpha) * (2 * m + 2 + alpha).
Proof.
  intros t m l Hm P C. pose proof alpha2. assert (done_in 2 t m) as D by (exists l; auto).
  apply any_cost_two in D; auto. pose proof (ceils_closed (m + 1)) as E.
  pose proof (Nat.mod_upper_bound (m + 1) alpha ltac:(lia)) as B.
  set (r := (m + 1) mod alpha) in *. assert (4 * (r * (alpha - r)) <= alpha * alpha).
  { pose proof (square r (alpha - r)) as Q. replace (r + (alpha - r)) with alpha in Q by lia. auto. }
  assert (8 * alpha * (t - 1) <= 4 * (2 * alpha * ceils (m + 1))).
  { replace (8 * alpha * (t - 1)) with (4 * (2 * alpha * (t - 1))) by ring. apply Nat.mul_le_mono_l,
    Nat.mul_le_mono_l. lia. }
  rewrite E in *. lia.
Qed.
(* the other direction *)
Theorem any_cost_two_enough : forall t m, 1 <= m -> 8 * alpha * (t - 1) + alpha * alpha <= (2 * m + 2 + alpha) * (2 * m
  + 2 + alpha) ->
  done_in 2 t m.
Proof.
  intros t m Hm H. pose proof alpha2. apply any_cost_two; auto. pose proof (ceils_closed (m + 1)) as E.
  assert (8 * alpha * (t - 1) <= 4 * (2 * alpha * ceils (m + 1))) by (rewrite E; lia).
  assert (t - 1 <= ceils (m + 1)); [|lia]. apply Nat.mul_le_mono_pos_l with (8 * alpha); lia.
Qed.

(* a forwards a step *)
Theorem any_fixed_cost : forall a t m, 1 <= a -> 1 <= m -> (a - 1) * (m + a - 1) <= m * (m + 1) ->
  (done_in a t m <-> t <= F (S a) m).
Proof. intros. rewrite done_in_V by auto. apply longest_exact; auto. Qed.
(* from m = 2a - 3 on *)
Theorem any_fixed_cost_from : forall a t m, 1 <= a -> 1 <= m -> 2 * a - 3 <= m -> (done_in a t m <-> t <= F (S a) m).
Proof. intros. rewrite done_in_V by auto. apply longest_exact_from; auto. Qed.
(* the upper bound needs no condition on m *)
Theorem any_fixed_cost_most : forall a t m, 1 <= m -> done_in a t m -> t <= F (S a) m.
Proof. intros a t m Hm H. apply longest_most; auto. apply done_in_V; auto. Qed.
(* the lower one: L_a(m) steps can always be done *)
Theorem any_fixed_cost_least : forall a t m, 1 <= m -> t <= L a m -> done_in a t m.
Proof. intros a t m Hm H. apply done_in_V; auto. apply longest_least; auto. Qed.

(* powers *)
Lemma bernoulli : forall k x c, x ^ S k + S k * c * x ^ k <= (x + c) ^ S k.
Proof.
  induction k; intros x c. { rewrite !Nat.pow_1_r, Nat.pow_0_r. lia. }
  specialize (IHk x c). rewrite (Nat.pow_succ_r' (x + c)). rewrite (Nat.pow_succ_r' x (S k)).
  rewrite (Nat.pow_succ_r' x k) in *.
  set (p := x ^ k) in *. set (z := (x + c) ^ S k) in *. pose proof (Nat.mul_le_mono_l _ _ (x + c) IHk). nia.
Qed.
(* (x + c)^(k+1) is at most x^(k+1) + (k+1) c (x + c)^k *)
Lemma mean : forall k x c, (x + c) ^ S k <= x ^ S k + S k * c * (x + c) ^ k.
Proof.
  induction k; intros x c. { rewrite !Nat.pow_1_r, Nat.pow_0_r. lia. }
  specialize (IHk x c). rewrite (Nat.pow_succ_r' (x + c) (S k)). rewrite (Nat.pow_succ_r' x (S k)).
  set (z := (x + c) ^ S k) in *. assert (z = (x + c) * (x + c) ^ k) by apply Nat.pow_succ_r'.
  set (w := (x + c) ^ k) in *. set (p := x ^ S k) in *.
  pose proof (Nat.mul_le_mono_l _ _ x IHk). assert (x * (S k * c * w) <= S k * c * z). { rewrite H. nia. } nia.
Qed.
(* 2^a is at most twice a! *)
Lemma pow_fact : forall a, 1 <= a -> 2 ^ a <= 2 * fact a.
Proof.
  intros a H. induction H. reflexivity. rewrite Nat.pow_succ_r'. change (fact (S m)) with (S m * fact m).
  assert (2 * fact m <= S m * fact m) by (apply Nat.mul_le_mono_r; lia). lia.
Qed.
(* the steps that can be done, from below by a power *)
Theorem L_power : forall a m, 1 <= a -> 1 <= m -> (m + 1) ^ a <= fact a * alpha * L a m.
Proof.
  pose proof alpha2 as A. induction a as [|a IHa]; intros m Ha Hm; [lia|]. destruct (Nat.eq_dec a 0) as [->|N].
  { rewrite Nat.pow_1_r. change (fact 1) with 1. change (L 1 m) with (1 + m / alpha).
      pose proof (Nat.div_mod m alpha ltac:(lia)).
    pose proof (Nat.mod_upper_bound m alpha ltac:(lia)). lia. }
  induction m as [|m IHm]; [lia|]. destruct (Nat.eq_dec m 0) as [->|M].
  { rewrite L_one_slot by lia. pose proof (pow_fact (S a) Ha). change (1 + 1) with 2.
    assert (fact (S a) * 2 <= fact (S a) * alpha) by (apply Nat.mul_le_mono_l; auto).
    assert (fact (S a) * alpha * 1 <= fact (S a) * alpha * (2 * S a - 1)) by (apply Nat.mul_le_mono_l; lia). lia. }
  rewrite L_step by lia. replace (S m - 1) with m by lia. replace (S a - 1) with a by lia.
  specialize (IHa (S m) ltac:(lia) ltac:(lia)). specialize (IHm ltac:(lia)).
  pose proof (mean a (m + 1) 1) as B. replace (m + 1 + 1) with (S m + 1) in B by lia. rewrite Nat.mul_1_r in B.
  pose proof (Nat.mul_le_mono_l _ _ (S a) IHa). replace (S a * (fact a * alpha * L a (S m))) with (fact (S a) * alpha *
    L a (S m)) in H by (change (fact (S a)) with (S a * fact a); ring).
  rewrite Nat.mul_add_distr_l. lia.
Qed.
(* a! a (a+1) / 2 is at most a^a *)
Lemma self_power : forall a, 4 <= a -> fact a * tri (S a) <= a ^ a.
Proof.
  intros a H. induction H. { vm_compute. lia. }
  pose proof (bernoulli (m - 1) m 1) as B. replace (S (m - 1)) with m in B by lia.
  replace (m * 1 * m ^ (m - 1)) with (m ^ m) in B.
  2:{ rewrite Nat.mul_1_r, <- Nat.pow_succ_r'. replace (S (m - 1)) with m by lia. auto. }
  replace (m + 1) with (S m) in B by lia. rewrite Nat.pow_succ_r'. change (fact (S m)) with (S m * fact m).
  assert (tri (S (S m)) <= 2 * tri (S m)). { pose proof (tri_big (S m)).
    change (tri (S (S m))) with (tri (S m) + S m). lia. }
  replace (S m * fact m * tri (S (S m))) with (S m * (fact m * tri (S (S m)))) by ring. apply Nat.mul_le_mono_l.
  pose proof (Nat.mul_le_mono_l _ _ (fact m) H0). lia.
Qed.
(* the bound in one slot *)
Lemma corner : forall a, 2 <= a -> fact a * alpha * tri (S a) <= (alpha + a) ^ a.
Proof.
  pose proof alpha2 as A. intros a H. destruct (le_lt_dec 4 a) as [B|B].
  - pose proof (self_power a B). pose proof (bernoulli (a - 1) a alpha) as P. replace (S (a - 1)) with a in P by lia.
    replace (a * alpha * a ^ (a - 1)) with (alpha * a ^ a) in P.
    2:{ replace (a ^ a) with (a * a ^ (a - 1)). ring. rewrite <- Nat.pow_succ_r'. replace (S (a - 1)) with a by lia.
      auto. }
    rewrite (Nat.add_comm alpha). pose proof (Nat.mul_le_mono_l _ _ alpha H0). lia.
  - assert (a = 2 \/ a = 3) as [-> | ->] by lia.
    + change (fact 2) with 2. change (tri 3) with 3. change ((alpha + 2) ^ 2) with ((alpha + 2) * ((alpha + 2) * 1)).
      pose proof (square alpha 2). remember (alpha - 2) as d. assert (alpha = d + 2) as -> by lia. lia.
    + change (fact 3) with 6. change (tri 4) with 6.
      change ((alpha + 3) ^ 3) with ((alpha + 3) * ((alpha + 3) * ((alpha + 3) * 1))).
      remember (alpha - 2) as d. assert (alpha = d + 2) as -> by lia. lia.
Qed.
(* the steps that cannot be exceeded, from above by a power *)
Theorem F_power : forall a m, 1 <= a -> 1 <= m -> fact a * alpha * F (S a) m <= (m + alpha + a - 1) ^ a.
Proof.
  pose proof alpha2 as A. induction a as [|a IHa]; intros m Ha Hm; [lia|]. destruct (Nat.eq_dec a 0) as [->|N].
  { rewrite Nat.pow_1_r. change (fact 1) with 1. rewrite F_two. pose proof (Nat.div_mod m alpha ltac:(lia)). lia. }
  induction m as [|m IHm]; [lia|]. destruct (Nat.eq_dec m 0) as [->|M].
  { rewrite F_one_slot. pose proof (corner (S a) ltac:(lia)). replace (1 + alpha + S a - 1) with (alpha + S a) by lia.
      auto. }
  rewrite F_step by lia. replace (S m - 1) with m by lia. replace (S (S a) - 1) with (S a) by lia.
  specialize (IHa (S m) ltac:(lia) ltac:(lia)). specialize (IHm ltac:(lia)).
  set (x := m + alpha + a) in *. replace (S m + alpha + a - 1) with x in IHa by lia.
  replace (m + alpha + S a - 1) with x in IHm by lia.
  replace (S m + alpha + S a - 1) with (x + 1) by lia. pose proof (bernoulli a x 1) as B. rewrite Nat.mul_1_r in B.
  pose proof (Nat.mul_le_mono_l _ _ (S a) IHa). replace (S a * (fact a * alpha * F (S a) (S m))) with (fact (S a) *
    alpha * F (S a) (S m)) in H by (change (fact (S a)) with (S a * fact a); ring).
  rewrite Nat.mul_add_distr_l. lia.
Qed.

(* Every legal schedule of at most a t forwards has (m + alpha + a - 1)^a >= a! alpha t; slots with (m+1)^a >= a! alpha
   t do. *)
Theorem any_needs : forall a t m l, 1 <= a -> 1 <= m -> legal (SEPARATE alpha) m t l = true -> cost l <= a * t ->
  fact a * alpha * t <= (m + alpha + a - 1) ^ a.
Proof.
  intros a t m l Ha Hm P C. assert (done_in a t m) as D by (exists l; auto). apply any_fixed_cost_most in D; auto.
  pose proof (F_power a m Ha Hm). pose proof (Nat.mul_le_mono_l _ _ (fact a * alpha) D). lia.
Qed.
(* so many slots are enough *)
Theorem any_enough : forall a t m, 1 <= a -> 1 <= m -> fact a * alpha * t <= (m + 1) ^ a -> done_in a t m.
Proof.
  pose proof alpha2. intros a t m Ha Hm H0. apply any_fixed_cost_least; auto. pose proof (L_power a m Ha Hm).
  assert (1 <= fact a) by (pose proof (lt_O_fact a); lia).
  apply Nat.mul_le_mono_pos_l with (fact a * alpha); nia.
Qed.

(* The fewest slots at a forwards a step *)
Definition fewest (a t m : nat) := 1 <= m /\ done_in a t m /\ forall n, 1 <= n -> done_in a t n -> m <= n.
(* there is a fewest number of slots *)
Theorem fewest_exists : forall a t, 1 <= a -> exists m, fewest a t m.
Proof.
  pose proof alpha2 as A. intros a t Ha.
  assert (D : forall n, 1 <= n -> {done_in a t n} + {~ done_in a t n}).
  { intros n Hn. destruct (le_lt_dec (V false t n) (a * t)) as [B|B]; [left|right]; rewrite done_in_V by auto; lia. }
  assert (E : forall n, 1 <= n -> done_in a t n -> exists m, fewest a t m).
  { induction n as [n IH] using lt_wf_ind. intros Hn H. destruct (Nat.eq_dec n 1) as [->|N].
    - exists 1. repeat split; auto.
    - assert (M : forall k, k < n -> (exists j, 1 <= j <= k /\ done_in a t j) \/ (forall j, 1 <= j <= k ->
        ~ done_in a t j)).
      { induction k as [|k IHk]; intro K. right. intros. lia. destruct IHk as [(j & J & Q)|Q]; [lia| |].
        - left. exists j. split; auto. lia.
        - destruct (D (S k)) as [R|R]; [lia| |]. left. exists (S k). split; auto. lia. right. intros j J.
          destruct (Nat.eq_dec j (S k)) as [->|]; auto. apply Q. lia. }
      destruct (M (n - 1)) as [(j & J & Q)|Q]; [lia| |]. apply IH with j; auto; lia.
      exists n. repeat split; auto. intros k Hk HD. destruct (le_lt_dec n k); auto. exfalso. apply (Q k); auto. lia. }
  apply E with (alpha * t + 1). lia. apply any_fixed_cost_least. lia. apply Nat.le_trans with (L 1 (alpha * t + 1)).
  - change (L 1 (alpha * t + 1)) with (1 + (alpha * t + 1) / alpha).
    replace (alpha * t + 1) with (1 + t * alpha) by ring. rewrite Nat.div_add by lia. lia.
  - clear - Ha A. induction Ha; auto. assert (L (S m) (alpha * t + 1) >= L m (alpha * t + 1)); [|lia].
    destruct (Nat.eq_dec t 0) as [->|]. replace (alpha * 0 + 1) with 1 by lia. rewrite !L_one_slot by lia. lia.
    rewrite (L_step (S m)) by lia. replace (S m - 1) with m by lia. lia.
Qed.
(* (a! alpha t)^(1/a) - (alpha + a - 1) <= m <= (a! alpha t)^(1/a) *)
Theorem fewest_bounds : forall a t m, 1 <= a -> 1 <= t -> fewest a t m ->
  m ^ a <= fact a * alpha * t <= (m + alpha + a - 1) ^ a.
Proof.
  pose proof alpha2. intros a t m Ha Ht (Hm & (l & P & C) & Q). split; [|eapply any_needs; eauto].
  pose proof (lt_O_fact a). destruct (Nat.eq_dec m 1) as [->|N]. { rewrite Nat.pow_1_l. nia. }
  destruct (le_lt_dec (fact a * alpha * t) (m ^ a)) as [B|B]; [|lia]. exfalso.
  assert (done_in a t (m - 1)) as D; [|specialize (Q (m - 1) ltac:(lia) D); lia]. apply any_enough; try lia.
  now replace (m - 1 + 1) with m by lia.
Qed.
(* at two forwards a step: sqrt(2 alpha (t-1)) - 1 <= m + alpha / 2 < sqrt(2 alpha (t-1) + alpha^2 / 4) *)
Theorem fewest_two : forall t m, 2 <= m -> fewest 2 t m ->
  8 * alpha * (t - 1) <= (2 * m + 2 + alpha) * (2 * m + 2 + alpha) /\ (2 * m + alpha) * (2 * m + alpha) < 8 * alpha *
    (t - 1) + alpha * alpha.
Proof.
  intros t m M (Hm & (l & P & C) & Q). split. eapply any_cost_two_needs; eauto.
  destruct (le_lt_dec (8 * alpha * (t - 1) + alpha * alpha) ((2 * m + alpha) * (2 * m + alpha))) as [B|B]; auto.
  exfalso.
  assert (done_in 2 t (m - 1)) as D; [|specialize (Q (m - 1) ltac:(lia) D); lia]. apply any_cost_two_enough; try lia.
Qed.
(* so m^a / t tends to a! alpha: for every k, |m^a - a! alpha t| <= t / k from some t on *)
Theorem fewest_limit : forall a, 1 <= a -> forall k, exists T, forall t m, T <= t -> fewest a t m ->
  k * m ^ a <= k * (fact a * alpha * t) <= k * m ^ a + t.
Proof.
  pose proof alpha2 as A. intros a Ha k. destruct a as [|b]; [lia|]. set (c := alpha + b).
  set (K := fact (S b) * alpha).
  set (M := c + k * (S b * c * 2 ^ b) * K). exists (S ((M + c) ^ S b)). intros t m HT Hf.
  destruct (fewest_bounds (S b) t m Ha ltac:(lia) Hf) as [B1 B2]. fold K in B1, B2.
  replace (m + alpha + S b - 1) with (m + c) in B2 by lia.
  split. apply Nat.mul_le_mono_l; auto.
  assert (1 <= K). { unfold K. pose proof (lt_O_fact (S b)). nia. }
  assert (HM : M <= m). { destruct (le_lt_dec M m) as [|X];
    auto. exfalso. pose proof (Nat.pow_le_mono_l (m + c) (M + c) (S b)). nia. }
  pose proof (mean b m c) as E. assert (k * (S b * c * (m + c) ^ b) <= t).
  { assert ((m + c) ^ b <= 2 ^ b * m ^ b). { rewrite <- Nat.pow_mul_l. apply Nat.pow_le_mono_l. lia. }
    apply Nat.mul_le_mono_pos_l with K; [lia|]. apply Nat.le_trans with (m ^ S b); auto. rewrite Nat.pow_succ_r'.
    apply Nat.le_trans with ((k * (S b * c * 2 ^ b) * K) * m ^ b).
    - replace (K * (k * (S b * c * (m + c) ^ b))) with (K * k * (S b * c) * (m + c) ^ b) by ring.
      replace (k * (S b * c * 2 ^ b) * K * m ^ b) with (K * k * (S b * c) * (2 ^ b * m ^ b)) by ring.
      apply Nat.mul_le_mono_l; auto.
    - apply Nat.mul_le_mono_r. lia. }
  pose proof (Nat.mul_le_mono_l _ _ k (Nat.le_trans _ _ _ B2 E)). lia.
Qed.
End Chen.
