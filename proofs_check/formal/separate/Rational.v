(* Every rational number of forwards a step, c = a + p/q with a >= 1 and 0 <= p < q: fewest slots m with m^a / t -> a!
   alpha (1 - p/q). *)
From Membptt Require Import TwoBranches Lines Longest Chen BelowTwo.
Arguments Nat.div : simpl never.
Arguments Nat.modulo : simpl never.
Arguments Nat.mul : simpl nomatch.
Arguments Nat.pow : simpl never.

Section Rational.
Context {size : Size}.

(* up to where the line of slope r is reached, by the closed form *)
Fixpoint top (r : nat) : nat -> nat :=
  match r with
  | 0 => fun _ => 0
  | S k => match k with 0 => fun _ => 0 | S j => match j with
      0 => fun m => ceils (S m) - (alpha - 1) * tri (1 + m / alpha) | S _ => row r (top k) end end
  end.
(* r = 2 *)
Lemma top_two : forall m, top 2 m = ceils (S m) - (alpha - 1) * tri (1 + m / alpha). Proof. reflexivity. Qed.
(* from r = 3 on *)
Lemma top_row : forall r m, 3 <= r -> top r m = row r (top (r - 1)) m.
Proof. intros [|[|[|r]]] m H; try lia. reflexivity. Qed.
(* one slot *)
Lemma top_one : forall r, 2 <= r -> top r 1 = r.
Proof.
  pose proof alpha2. intros [|[|[|r]]] Hr; try lia; try reflexivity. rewrite top_two, !ceils_S.
  rewrite Nat.div_0_l, Nat.div_small by lia.
  change (tri (1 + 0)) with 0. simpl ceils. lia.
Qed.
(* Pascal's rule *)
Lemma top_step : forall r m, 3 <= r -> 2 <= m -> top r m = top (r - 1) m + top r (m - 1).
Proof. intros. rewrite (top_row r m), (top_row r (m - 1)), row_S by lia. lia. Qed.
(* it is far beyond the beginning of the stretch *)
Lemma top_two_big : forall m, tri (2 + m / alpha) + (alpha - 1) * tri (1 + m / alpha) <= ceils (S m).
Proof.
  pose proof alpha2. intro m. pose proof (ceils_corner (m / alpha)) as K.
  pose proof (Nat.mul_div_le m alpha ltac:(lia)).
  pose proof (ceils_mono (alpha * (m / alpha) + 1) (S m) ltac:(lia)). change (2 + m / alpha) with (S (S (m / alpha))).
  change (1 + m / alpha) with (S (m / alpha)).
  change (tri (S (S (m / alpha)))) with (tri (S (m / alpha)) + S (m / alpha)). remember (tri (S (m / alpha))) as z.
  assert (alpha * z = (alpha - 1) * z + z). { replace alpha with (alpha - 1 + 1) at 1 by lia. lia. } lia.
Qed.
(* the ends are in order *)
Lemma lo_top : forall r m, 2 <= r -> 1 <= m -> lo r m <= top r m.
Proof.
  induction r as [|r IHr]; intros m Hr Hm; [lia|]. destruct (Nat.eq_dec r 1) as [->|N].
  { rewrite top_two. pose proof (top_two_big m). simpl lo. change (tri (2 + m / alpha)) with (tri (1 + m / alpha) + (1
    + m / alpha)) in H. lia. }
  induction m; [lia|].
  destruct (Nat.eq_dec m 0) as [->|M]. rewrite lo_one, top_one; lia. rewrite lo_step, top_step by lia.
  replace (S m - 1) with m by lia.
  replace (S r - 1) with r by lia. specialize (IHr (S m)). lia.
Qed.
(* between them the cost is on the line *)
Theorem on_the_line_top : forall r m t, 2 <= r -> 1 <= m -> lo r m <= t <= top r m -> V false t m + F r m <= r * t.
Proof.
  pose proof alpha2 as A. induction r as [|r IHr]; intros m t Hr Hm; [lia|].
  destruct (Nat.eq_dec r 1) as [->|R].
  { rewrite top_two, F_two. simpl lo. intro H. apply closed_reached; lia. }
  revert t. induction m as [|m IHm]; [lia|]. intros t H. destruct (Nat.eq_dec m 0) as [->|M].
  { apply on_the_line; try lia. rewrite top_one, lo_one in H by lia. rewrite hi_one, lo_one by lia. auto. }
  rewrite lo_step, top_step in H by lia. replace (S m - 1) with m in * by lia. replace (S r - 1) with r in * by lia.
  pose proof (lo_pos r (S m)). pose proof (lo_pos (S r) m). pose proof (lo_top r (S m)). pose proof (lo_top (S r) m).
  assert (exists y, lo r (S m) <= y <= top r (S m) /\ lo (S r) m <= t - y <= top (S r) m /\ y < t) as (y & Y & Z & YT).
  { exists (Nat.max (lo r (S m)) (t - top (S r) m)). lia. }
  pose proof (lo_pos r (S m)). apply (next_line r m t y); try lia. apply IHr; lia. apply IHm; lia.
Qed.
(* top outgrows F *)
Lemma F_pos : forall r m, 2 <= r -> 1 <= m -> 1 <= F r m.
Proof.
  intros r m Hr Hm. pose proof (F_mono r 1 m ltac:(lia)). rewrite F_one_slot in H. destruct r as [|[|r]]; try lia.
  simpl tri in H. lia.
Qed.
(* top outgrows every multiple of F *)
Lemma outgrows : forall r K, 2 <= r -> exists M, forall m, M <= m -> K * F r m <= top r m.
Proof.
  pose proof alpha2 as A. induction r as [|r IHr]; intros K Hr; [lia|]. destruct (Nat.eq_dec r 1) as [->|N].
  - exists (alpha * (2 * K)). intros m Hm. rewrite F_two, top_two. pose proof (top_two_big m) as B.
    pose proof (tri_twice (1 + m / alpha)) as T.
    assert (2 * K <= m / alpha). { apply Nat.div_le_lower_bound;
      lia. } replace (S (1 + m / alpha)) with (2 + m / alpha) in T by lia.
    set (c := 1 + m / alpha) in *. replace (2 + m / alpha) with (S c) in * by (unfold c; lia).
    assert (c * (2 * K) <= c * S c) by (apply Nat.mul_le_mono_l; lia). lia.
  - destruct (IHr (2 * K) ltac:(lia)) as (M0 & H0). set (M := Nat.max M0 2). exists (M + F (S r) M). intros m Hm.
    assert (D : forall d, K * F (S r) (M + d) + d * K <= top (S r) (M + d) + K * F (S r) M).
    { induction d. { replace (M + 0) with M by lia. lia. } rewrite (F_step (S r) (M + S d)),
      (top_step (S r) (M + S d)) by lia.
      replace (M + S d - 1) with (M + d) by lia. replace (S r - 1) with r by lia. specialize (H0 (M + S d) ltac:(lia)).
      pose proof (F_pos r (M + S d) ltac:(lia) ltac:(lia)). pose proof (Nat.mul_le_mono_l _ _ K H). lia. }
    specialize (D (m - M)). replace (M + (m - M)) with m in D by lia.
    assert (F (S r) M * K <= (m - M) * K) by (apply Nat.mul_le_mono_r; lia). lia.
Qed.

(* at a + p/q forwards a step *)
Definition done_at (a p q t m : nat) := exists l, legal (SEPARATE alpha) m t l = true /\ q * cost l <= (a * q + p) * t.
(* exactly where P(t, m) is no more *)
Lemma done_at_V : forall a p q t m, 1 <= m -> (done_at a p q t m <-> q * V false t m <= (a * q + p) * t).
Proof.
  intros a p q t m Hm. split.
  - intros (l & P & C). pose proof (P_lower t m l Hm P). pose proof (Nat.mul_le_mono_l _ _ q H). lia.
  - intro C. destruct (P_reached t m Hm) as (l & P & E). exists l. repeat split; auto. rewrite E. auto.
Qed.
(* the upper bound, for every m *)
Theorem any_rational_most : forall a p q t m, 1 <= m -> p <= q -> done_at a p q t m -> (q - p) * t <= q * F (S a) m.
Proof.
  intros a p q t m Hm Hp H. apply done_at_V in H; auto. pose proof (line (S a) t m ltac:(lia) Hm) as X.
  pose proof (Nat.mul_le_mono_l _ _ q X) as Y. remember (q - p) as d. assert (q = d + p) by lia. subst q. clear - Y H.
  nia.
Qed.
(* the lower one, where the stretch is long enough *)
Lemma rational_least : forall a p q t m, 1 <= a -> 1 <= m -> p <= q -> (q - p) * t <= q * F (S a) m ->
  t <= top (S a) m -> done_at a p q t m.
Proof.
  intros a p q t m Ha Hm Hp H HT. apply done_at_V; auto. destruct (le_lt_dec t (L a m)) as [B|B].
  - pose proof (longest_least a m t Hm B) as X. pose proof (Nat.mul_le_mono_l _ _ q X). lia.
  - pose proof (lo_L a m Ha Hm). pose proof (on_the_line_top (S a) m t ltac:(lia) Hm ltac:(lia)) as X.
    pose proof (Nat.mul_le_mono_l _ _ q X) as Y. remember (q - p) as d. assert (q = d + p) by lia. subst q.
    clear - Y H. nia.
Qed.
(* exact wherever top is large enough (p = 0, q = 1: F (a+1) m <= top (a+1) m), so from some m on *)
Theorem any_rational_exact_where : forall a p q t m, 1 <= a -> 1 <= m -> p < q ->
  q * F (S a) m <= (q - p) * top (S a) m ->
  (done_at a p q t m <-> (q - p) * t <= q * F (S a) m).
Proof.
  intros a p q t m Ha Hm Hp H. split. apply any_rational_most; lia. intro D. apply rational_least; try lia.
  apply Nat.mul_le_mono_pos_l with (q - p); lia.
Qed.
(* which it is from some m on *)
Theorem any_rational_exact : forall a p q, 1 <= a -> p < q ->
  exists M, forall m, M <= m -> forall t, done_at a p q t m <-> (q - p) * t <= q * F (S a) m.
Proof.
  intros a p q Ha Hp. destruct (outgrows (S a) q ltac:(lia)) as (M & HM). exists (S M). intros m Hm t.
  apply any_rational_exact_where; try lia.
  specialize (HM m ltac:(lia)). assert (1 * top (S a) m <= (q - p) * top (S a) m) by (apply Nat.mul_le_mono_r; lia).
  lia.
Qed.
(* what can be done is no more than what cannot be exceeded *)
Lemma L_le_F : forall a m, 1 <= a -> 1 <= m -> L a m <= F (S a) m.
Proof. intros a m Ha Hm. apply longest_most; auto. apply longest_least; auto. Qed.

(* m is the fewest slots at that cost *)
Definition fewest_at (a p q t m : nat) := 1 <= m /\ done_at a p q t m /\ forall n, 1 <= n -> done_at a p q t n ->
  m <= n.
(* there is one *)
Theorem fewest_at_exists : forall a p q t, 1 <= a -> exists m, fewest_at a p q t m.
Proof.
  intros a p q t Ha. destruct (fewest_exists a t Ha) as (n0 & Hn0 & Q0 & _).
  assert (Q : done_at a p q t n0). { apply done_at_V; auto. apply done_in_V in Q0;
    auto. pose proof (Nat.mul_le_mono_l _ _ q Q0). lia. }
  clear Q0. revert Hn0 Q. induction n0 as [n IH] using lt_wf_ind. intros Hn HQ.
  assert (D : (exists j, 1 <= j < n /\ done_at a p q t j) \/ (forall j, 1 <= j < n -> ~ done_at a p q t j)).
  { clear. induction n as [|k IHk]. right. intros. lia. destruct IHk as [(j & J & X)|X]. left. exists j. split;
      auto. lia.
    destruct (Nat.eq_dec k 0) as [->|K]. right. intros. lia.
    destruct (le_lt_dec (q * V false t k) ((a * q + p) * t)) as [B|B].
    - left. exists k. split. lia. apply done_at_V; auto. lia.
    - right. intros j J. destruct (Nat.eq_dec j k) as [->|]; [|apply X; lia]. rewrite done_at_V by lia. lia. }
  destruct D as [(j & J & X)|X]. apply (IH j); auto; lia.
  exists n. repeat split; auto. intros k Hk HD. destruct (le_lt_dec n k); auto. exfalso. apply (X k); auto.
Qed.
(* between two powers from some t on *)
Theorem fewest_at_bounds : forall a p q, 1 <= a -> p < q -> exists T, forall t m, T <= t -> fewest_at a p q t m ->
  q * m ^ a <= fact a * alpha * ((q - p) * t) <= q * (m + alpha + a - 1) ^ a.
Proof.
  pose proof alpha2 as A. intros a p q Ha Hp. destruct (any_rational_exact a p q Ha Hp) as (M & HM).
  exists (S (q * (M + 2 + alpha + a - 1) ^ a)). intros t m HT (Hm & D & Q). pose proof (lt_O_fact a) as F0.
  assert (U : fact a * alpha * ((q - p) * t) <= q * (m + alpha + a - 1) ^ a).
  { apply any_rational_most in D; try lia. pose proof (F_power a m Ha Hm) as X.
      pose proof (Nat.mul_le_mono_l _ _ (fact a * alpha) D).
    pose proof (Nat.mul_le_mono_l _ _ q X). lia. }
  split; auto.
  assert (BIG : M + 2 < m).
  { destruct (le_lt_dec m (M + 2)) as [B|B]; auto. exfalso. pose proof (Nat.pow_le_mono_l (m + alpha + a - 1) (M + 2 +
    alpha + a - 1) a ltac:(lia)) as X.
    pose proof (Nat.mul_le_mono_l _ _ q X). assert (1 * (1 * t) <= fact a * alpha * ((q - p) * t)).
    { apply Nat.mul_le_mono. nia. apply Nat.mul_le_mono_r. lia. } lia. }
  destruct (le_lt_dec (fact a * alpha * ((q - p) * t)) (q * m ^ a)) as [B|B]; [|lia].
  destruct (Nat.eq_dec (fact a * alpha * ((q - p) * t)) (q * m ^ a)) as [E|E]; [lia|]. exfalso.
  assert (done_at a p q t (m - 1)) as D'; [|specialize (Q (m - 1) ltac:(lia) D'); lia]. apply HM; [lia|].
  pose proof (L_power a (m - 1) Ha ltac:(lia)) as X. replace (m - 1 + 1) with m in X by lia.
  pose proof (L_le_F a (m - 1) Ha ltac:(lia)) as Y.
  apply Nat.mul_le_mono_pos_l with (fact a * alpha). nia.
  pose proof (Nat.mul_le_mono_l _ _ q X). pose proof (Nat.mul_le_mono_l _ _ (q * (fact a * alpha)) Y). lia.
Qed.
(* m^a / t tends to a! alpha (q - p) / q *)
Theorem fewest_at_limit : forall a p q, 1 <= a -> p < q -> forall k, exists T, forall t m, T <= t ->
  fewest_at a p q t m ->
  k * (q * m ^ a) <= k * (fact a * alpha * (q - p) * t) <= k * (q * m ^ a) + t.
Proof.
  pose proof alpha2 as A. intros a p q Ha Hp k. destruct (fewest_at_bounds a p q Ha Hp) as (T & HT).
  destruct a as [|b]; [lia|]. set (c := alpha + b) in *. set (K := fact (S b) * alpha * (q - p)).
  set (M := c + k * q * (S b * c * 2 ^ b) * K). exists (T + S (q * (M + c) ^ S b)). intros t m Ht Hf.
  destruct (HT t m ltac:(lia) Hf) as [B1 B2]. replace (fact (S b) * alpha * ((q - p) * t)) with (K * t) in B1,
    B2 by (unfold K; ring).
  replace (m + alpha + S b - 1) with (m + c) in B2 by (unfold c; lia). fold K. pose proof (lt_O_fact (S b)) as F0.
  split. apply Nat.mul_le_mono_l; auto.
  assert (K1 : 1 <= K). { unfold K. assert (1 <= fact (S b) * alpha) by nia. nia. }
  assert (KT : 1 * t <= K * t) by (apply Nat.mul_le_mono_r; auto).
  assert (HM : M <= m). { destruct (le_lt_dec M m) as [|X]; auto. exfalso. pose proof (Nat.pow_le_mono_l (m + c) (M +
    c) (S b) ltac:(lia)) as Y.
    pose proof (Nat.mul_le_mono_l _ _ q Y). lia. }
  pose proof (mean b m c) as E. assert (k * (q * (S b * c * (m + c) ^ b)) <= t) as G.
  { assert ((m + c) ^ b <= 2 ^ b * m ^ b) as H. { rewrite <- Nat.pow_mul_l. apply Nat.pow_le_mono_l. lia. }
    apply Nat.mul_le_mono_pos_l with K; [lia|]. apply Nat.le_trans with (1 * m ^ S b).
    2:{ apply Nat.le_trans with (q * m ^ S b); auto. apply Nat.mul_le_mono_r. lia. }
    rewrite Nat.mul_1_l, Nat.pow_succ_r'. apply Nat.le_trans with ((k * q * (S b * c * 2 ^ b) * K) * m ^ b).
    - replace (K * (k * (q * (S b * c * (m + c) ^ b)))) with (K * k * q * (S b * c) * (m + c) ^ b) by ring.
      replace (k * q * (S b * c * 2 ^ b) * K * m ^ b) with (K * k * q * (S b * c) * (2 ^ b * m ^ b)) by ring.
      apply Nat.mul_le_mono_l; auto.
    - apply Nat.mul_le_mono_r. lia. }
  pose proof (Nat.mul_le_mono_l _ _ q E) as E1. pose proof (Nat.mul_le_mono_l _ _ k (Nat.le_trans _ _ _ B2 E1)) as E2.
  lia.
Qed.
End Rational.
