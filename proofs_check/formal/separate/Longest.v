(* How long a sequence fits into m slots at a forwards a step: bounds for every a and m, and exactly where m is not too
   small. *)
From Membptt Require Import TwoBranches Lines.
Arguments Nat.div : simpl never.
Arguments Nat.mul : simpl nomatch.

Section Longest.
Context {size : Size}.

(* 1 + floor(m / alpha) steps need one forward each *)
Lemma flat : forall m, 1 <= m -> forall t, t <= 1 + m / alpha -> V false t m <= t.
Proof.
  pose proof alpha2 as A. induction m as [m IH] using lt_wf_ind. intros Hm t Ht.
  destruct (le_lt_dec t 1) as [T|T]. { destruct t as [|[|t]]; [rewrite V_none | rewrite V_1 |]; lia. }
  assert (alpha <= m). { destruct (le_lt_dec alpha m); auto. rewrite Nat.div_small in Ht by lia. lia. }
  pose proof (V_release t m). destruct (Nat.eq_dec m alpha) as [->|N].
  - rewrite Nat.div_same in Ht by lia. assert (t = 2) by lia. subst. replace (alpha + 1 - alpha) with 1 in * by lia.
    simpl Nat.sub in *. rewrite V_1 in *. lia.
  - pose proof (V_less true (t - 1) (m + 1 - alpha)). pose proof (IH (m - alpha) ltac:(lia) ltac:(lia) (t - 1)).
    replace (m + 1 - alpha - 1) with (m - alpha) in * by lia.
    assert (m / alpha = (m - alpha) / alpha + 1). { replace m with (m - alpha + 1 * alpha) at 1 by
      lia. rewrite Nat.div_add by lia. auto. }
    lia.
Qed.

(* L a m steps cost at most a each: a hidden state after L (a-1) m steps *)
Fixpoint L (a : nat) : nat -> nat :=
  match a with 0 => fun _ => 0 | S k => match k with 0 => fun m => 1 + m / alpha | S _ => row (2 * a - 1) (L k) end end.
(* from two forwards a step on *)
Lemma L_row : forall a m, 2 <= a -> L a m = row (2 * a - 1) (L (a - 1)) m.
Proof. intros [|[|a]] m H; try lia. reflexivity. Qed.
(* one slot *)
Lemma L_one_slot : forall a, 1 <= a -> L a 1 = 2 * a - 1.
Proof. pose proof alpha2. intros [|[|a]] Ha; try lia; try reflexivity. simpl L. rewrite Nat.div_small by lia.
reflexivity. Qed.
(* Pascal's rule *)
Lemma L_step : forall a m, 2 <= a -> 2 <= m -> L a m = L (a - 1) m + L a (m - 1).
Proof. intros. rewrite (L_row a m), (L_row a (m - 1)), row_S by lia. lia. Qed.
(* at least one step *)
Lemma L_pos : forall a m, 1 <= a -> 1 <= m -> 1 <= L a m.
Proof.
  intros a m Ha Hm. destruct (Nat.eq_dec a 1) as [->|N]. simpl; lia. induction m; [lia|].
  destruct (Nat.eq_dec m 0) as [->|M]. rewrite L_one_slot; lia. rewrite L_step by lia.
  replace (S m - 1) with m by lia. lia.
Qed.
(* L_a(m) steps can be done at a forwards a step *)
Theorem longest_least : forall a m t, 1 <= m -> t <= L a m -> V false t m <= a * t.
Proof.
  induction a as [|a IHa]; intros m t Hm. { simpl. intros. assert (t = 0) by lia. subst. rewrite V_none. auto. }
  destruct (Nat.eq_dec a 0) as [->|A]. { intro H. pose proof (flat m Hm t H). lia. }
  revert t. induction m as [|m IHm]; [lia|]. intros t H. destruct (Nat.eq_dec m 0) as [->|M].
  { rewrite L_one_slot in H by lia. rewrite V_tri_row. pose proof (tri_twice t).
    assert (t * S t <= t * (2 * S a)) by (apply Nat.mul_le_mono_l; lia). simpl in *. lia. }
  destruct (le_lt_dec t (L (S a) m)) as [T|T].
  - pose proof (V_less false t (S m)). replace (S m - 1) with m in * by lia. specialize (IHm ltac:(lia) t T). lia.
  - rewrite L_step in H by lia. replace (S m - 1) with m in * by lia. replace (S a - 1) with a in * by lia.
    pose proof (L_pos (S a) m). set (y := t - L (S a) m) in *.
    pose proof (V_hidden false t y (S m)). replace (S m - 1) with m in * by lia. specialize (IHa (S m) y ltac:(lia)).
    specialize (IHm ltac:(lia) (t - y)).
    assert (S a * t = y + a * y + S a * (t - y)); [|lia]. replace t with (y + (t - y)) at 1 by lia. simpl Nat.mul.
    rewrite Nat.mul_add_distr_l. lia.
Qed.

(* Between lo r m and hi r m the least cost is on the line of slope r. *)
Fixpoint lo (r : nat) : nat -> nat :=
  match r with
  | 0 => fun _ => 0
  | S k => match k with 0 => fun _ => 0 | S j => match j with 0 => fun m => 1 + m / alpha
    | S _ => row k (lo k) end end end.
(* the upper end *)
Fixpoint hi (r : nat) : nat -> nat :=
  match r with
  | 0 => fun _ => 0
  | S k => match k with 0 => fun _ => 0 | S j => match j with 0 => fun m => 2 + m / alpha
    | S _ => row r (hi k) end end end.
(* the lower end from r = 3 on *)
Lemma lo_row : forall r m, 3 <= r -> lo r m = row (r - 1) (lo (r - 1)) m.
Proof. intros [|[|[|r]]] m H; try lia. reflexivity. Qed.
(* the upper end from r = 3 on *)
Lemma hi_row : forall r m, 3 <= r -> hi r m = row r (hi (r - 1)) m.
Proof. intros [|[|[|r]]] m H; try lia. reflexivity. Qed.
(* the lower end in one slot *)
Lemma lo_one : forall r, 2 <= r -> lo r 1 = r - 1.
Proof. pose proof alpha2. intros [|[|[|r]]] Hr; try lia; try reflexivity. simpl lo. rewrite Nat.div_small by lia.
reflexivity. Qed.
(* the upper end in one slot *)
Lemma hi_one : forall r, 2 <= r -> hi r 1 = r.
Proof. pose proof alpha2. intros [|[|[|r]]] Hr; try lia; try reflexivity. simpl hi. rewrite Nat.div_small by lia.
reflexivity. Qed.
(* Pascal's rule, lower end *)
Lemma lo_step : forall r m, 3 <= r -> 2 <= m -> lo r m = lo (r - 1) m + lo r (m - 1).
Proof. intros. rewrite (lo_row r m), (lo_row r (m - 1)), row_S by lia. lia. Qed.
(* Pascal's rule, upper end *)
Lemma hi_step : forall r m, 3 <= r -> 2 <= m -> hi r m = hi (r - 1) m + hi r (m - 1).
Proof. intros. rewrite (hi_row r m), (hi_row r (m - 1)), row_S by lia. lia. Qed.
(* at least one step *)
Lemma lo_pos : forall r m, 2 <= r -> 1 <= m -> 1 <= lo r m.
Proof.
  intros r m Hr Hm. destruct (Nat.eq_dec r 2) as [->|N]. simpl; lia. induction m; [lia|].
  destruct (Nat.eq_dec m 0) as [->|M]. rewrite lo_one; lia. rewrite lo_step by lia. replace (S m - 1) with m by lia.
  lia.
Qed.
(* the ends are in order *)
Lemma lo_hi : forall r m, 2 <= r -> 1 <= m -> lo r m <= hi r m.
Proof.
  induction r as [|r IHr]; intros m Hr Hm; [lia|]. destruct (Nat.eq_dec r 1) as [->|N]. simpl; lia. induction m; [lia|].
  destruct (Nat.eq_dec m 0) as [->|M]. rewrite lo_one, hi_one; lia. rewrite lo_step, hi_step by lia.
  replace (S m - 1) with m by lia.
  replace (S r - 1) with r by lia. specialize (IHr (S m)). lia.
Qed.
(* one step more than 1 + floor(m / alpha) costs one forward more *)
Lemma flat_and_one : forall m, 1 <= m -> V false (2 + m / alpha) m <= 3 + m / alpha.
Proof.
  pose proof alpha2 as A. intros m Hm. destruct (Nat.eq_dec m 1) as [->|M].
  { rewrite Nat.div_small by lia. rewrite V_tri_row. simpl. lia. }
  pose proof (Nat.div_mod m alpha ltac:(lia)) as E. pose proof (Nat.mod_upper_bound m alpha ltac:(lia)) as B.
  set (q := m / alpha) in *. set (s := m mod alpha) in *. destruct (Nat.eq_dec s 0) as [Z|Z].
  - assert (q <> 0) by (intro; subst q; lia).
    pose proof (V_release (2 + q) m). assert (alpha * 1 <= alpha * q) by (apply Nat.mul_le_mono_l; lia).
    destruct (Nat.eq_dec q 1) as [Q|Q].
    + rewrite Q in *. replace (m + 1 - alpha) with 1 in * by lia. rewrite V_tri_row in H0. simpl in *. lia.
    + assert (alpha * 2 <= alpha * q) by (apply Nat.mul_le_mono_l; lia).
      pose proof (V_hidden true (2 + q - 1) 1 (m + 1 - alpha)). rewrite V_1 in *.
      replace (m + 1 - alpha - 1) with (m - alpha) in * by lia. replace (2 + q - 1 - 1) with q in * by lia.
      pose proof (flat (m - alpha) ltac:(lia) q). assert ((m - alpha) / alpha = q - 1); [|lia].
      replace (m - alpha) with ((q - 1) * alpha). apply Nat.div_mul; lia. destruct q; [lia|].
      replace (S q - 1) with q by lia. lia.
  - pose proof (V_hidden false (2 + q) 1 m). rewrite V_1 in *. pose proof (flat (m - 1) ltac:(lia) (1 + q)).
    assert ((m - 1) / alpha = q). { replace (m - 1) with (s - 1 + q * alpha) by lia. rewrite Nat.div_add by
      lia. rewrite Nat.div_small; lia. }
    replace (2 + q - 1) with (1 + q) in * by lia. lia.
Qed.
(* a hidden cut adds the left and the right line *)
Lemma next_line : forall r m t y, 2 <= r -> 1 <= m -> 1 <= y < t -> V false y (S m) + F r (S m) <= r * y ->
  V false (t - y) m + F (S r) m <= S r * (t - y) -> V false t (S m) + F (S r) (S m) <= S r * t.
Proof.
  intros r m t y Hr Hm Hy HL HR. pose proof (V_hidden false t y (S m) ltac:(lia) Hy) as C.
  rewrite (F_step (S r)) by lia. replace (S m - 1) with m in * by lia. replace (S r - 1) with r in * by lia.
  assert (S r * t = y + r * y + S r * (t - y)); [|lia]. replace t with (y + (t - y)) at 1 by lia. simpl Nat.mul.
  rewrite Nat.mul_add_distr_l. lia.
Qed.
(* between them the cost is on the line *)
Theorem on_the_line : forall r m t, 2 <= r -> 1 <= m -> lo r m <= t <= hi r m -> V false t m + F r m <= r * t.
Proof.
  pose proof alpha2 as A. induction r as [|r IHr]; intros m t Hr Hm; [lia|].
  destruct (Nat.eq_dec r 1) as [->|R]. { intro H. simpl lo in H. simpl hi in H. rewrite F_two. destruct (Nat.eq_dec t
    (2 + m / alpha)) as [->|N].
    pose proof (flat_and_one m Hm). lia. pose proof (flat m Hm t). lia. }
  revert t. induction m as [|m IHm]; [lia|]. intros t H. destruct (Nat.eq_dec m 0) as [->|M].
  { rewrite lo_one, hi_one in H by lia. rewrite V_tri_row, F_one_slot. pose proof (tri_twice t).
      pose proof (tri_twice r).
    assert (t = r \/ t = S r) as [-> | ->] by lia; simpl tri in *; nia. }
  rewrite lo_step, hi_step in H by lia. replace (S m - 1) with m in * by lia. replace (S r - 1) with r in * by lia.
  pose proof (lo_pos r (S m)). pose proof (lo_pos (S r) m). pose proof (lo_hi r (S m)). pose proof (lo_hi (S r) m).
  assert (exists y, lo r (S m) <= y <= hi r (S m) /\ lo (S r) m <= t - y <= hi (S r) m /\ y < t) as (y & Y & Z & YT).
  { exists (Nat.max (lo r (S m)) (t - hi (S r) m)). lia. }
  pose proof (lo_pos r (S m)). apply (next_line r m t y); try lia. apply IHr; lia. apply IHm; lia.
Qed.
(* the stretch begins before L_a(m) *)
Lemma lo_L : forall a m, 1 <= a -> 1 <= m -> lo (S a) m <= L a m.
Proof.
  induction a as [|a IHa]; intros m Ha Hm; [lia|]. destruct (Nat.eq_dec a 0) as [->|N]. simpl; lia. induction m; [lia|].
  destruct (Nat.eq_dec m 0) as [->|M]. rewrite lo_one, L_one_slot; lia. rewrite lo_step, L_step by lia.
  replace (S m - 1) with m by lia.
  replace (S (S a) - 1) with (S a) by lia. replace (S a - 1) with a by lia. specialize (IHa (S m)). lia.
Qed.

(* Pascal: u p q = binomial(p + q, p) *)
Fixpoint u (p : nat) : nat -> nat :=
  match p with 0 => fun _ => 1 | S p' => fix v q := match q with 0 => 1 | S q' => u p' q + v q' end end.
(* its first row *)
Lemma u_0 : forall q, u 0 q = 1. Proof. reflexivity. Qed.
(* its first column *)
Lemma u_r0 : forall p, u p 0 = 1. Proof. intros [|p]; reflexivity. Qed.
(* Pascal's rule *)
Lemma u_SS : forall p q, u (S p) (S q) = u p (S q) + u (S p) q. Proof. reflexivity. Qed.
(* its second column *)
Lemma u_1 : forall p, u p 1 = S p.
Proof. induction p; auto. rewrite u_SS, IHp, u_r0. lia. Qed.
(* its third column *)
Lemma u_2 : forall p, u p 2 = tri (S (S p)).
Proof. induction p; auto. rewrite u_SS, IHp, u_1. simpl. lia. Qed.
(* it is at least 1 *)
Lemma u_pos : forall p q, 1 <= u p q.
Proof. induction p; intros q. auto. destruct q; simpl; auto. specialize (IHp (S q)). lia. Qed.
(* absorption, both ways *)
Lemma u_ratio : forall n p q, p + q <= n -> S p * u (S p) q = (p + q + 1) * u p q /\
  S q * u p (S q) = (p + q + 1) * u p q.
Proof.
  induction n; intros p q H.
  - assert (p = 0) by lia. assert (q = 0) by lia. subst. simpl. auto.
  - split.
    + destruct q. { rewrite !u_r0. lia. } rewrite u_SS. pose proof (proj1 (IHn p q ltac:(lia))).
      pose proof (proj2 (IHn p q ltac:(lia))). nia.
    + destruct p. { rewrite !u_0. lia. } rewrite u_SS. pose proof (proj1 (IHn p q ltac:(lia))).
      pose proof (proj2 (IHn p q ltac:(lia))). nia.
Qed.
(* how far the two bounds are apart: binomial(m + a - 2, a - 3), whatever alpha is *)
Theorem longest_gap : forall a m, 3 <= a -> 1 <= m -> F (S a) m = L a m + u (a - 3) (m + 1).
Proof.
  induction a as [|a IHa]; intros m Ha Hm; [lia|]. induction m as [|m IHm]; [lia|].
  assert (T : forall n, 1 <= n -> F 3 n = L 2 n).
  { induction n as [|n IHn]; [lia|]. intros _. destruct (Nat.eq_dec n 0) as [->|N]. reflexivity.
    rewrite F_step, L_step by lia. replace (S n - 1) with n by lia. rewrite IHn by lia. reflexivity. }
  destruct (Nat.eq_dec m 0) as [->|M].
  { rewrite F_one_slot, L_one_slot by lia. destruct a as [|[|a]]; try lia. replace (S (S (S a)) - 3) with a by
    lia. simpl Nat.add. rewrite u_2.
    simpl tri. lia. }
  rewrite F_step, L_step by lia. replace (S m - 1) with m by lia. replace (S (S a) - 1) with (S a) by lia.
  replace (S a - 1) with a by lia.
  rewrite IHm by lia. destruct (Nat.eq_dec a 2) as [->|A]. { rewrite T by lia. simpl Nat.sub. rewrite !u_0. lia. }
  rewrite IHa by lia. destruct a as [|[|[|a]]]; try lia. replace (S (S (S (S a))) - 3) with (S a) by lia.
  replace (S (S (S a)) - 3) with a by lia.
  replace (S m + 1) with (S (m + 1)) by lia. rewrite u_SS. lia.
Qed.
(* hi against F *)
Lemma hi_F : forall r m, 3 <= r -> 1 <= m -> hi r m + u (r - 3) (m + 1) = F r m + u (r - 2) (m - 1).
Proof.
  pose proof alpha2 as A. induction r as [|r IHr]; intros m Hr Hm; [lia|]. induction m as [|m IHm]; [lia|].
  destruct (Nat.eq_dec m 0) as [->|M].
  { rewrite hi_one, F_one_slot by lia. destruct r as [|[|r]]; try lia. replace (S (S (S r)) - 3) with r by
    lia. simpl Nat.sub. rewrite u_r0.
    simpl Nat.add. rewrite u_2. simpl tri. lia. }
  rewrite hi_step, F_step by lia. specialize (IHm ltac:(lia)). replace (S m - 1) with m in * by lia.
  replace (S r - 1) with r in * by lia.
  destruct r as [|[|r]]; try lia. replace (S (S (S r)) - 3) with r in * by lia.
  replace (S (S (S r)) - 2) with (S r) in * by lia.
  destruct m as [|m]; [lia|]. replace (S m - 1) with m in * by lia. rewrite u_SS.
  destruct r as [|r].
  - rewrite F_two, !u_0 in *. simpl hi at 1. lia.
  - specialize (IHr (S (S m))). replace (S (S (S r)) - 3) with r in * by lia.
    replace (S (S (S r)) - 2) with (S r) in * by lia.
    replace (S (S m) - 1) with (S m) in * by lia. replace (S (S m) + 1) with (S (S m + 1)) in * by lia.
    rewrite (u_SS r (S m + 1)). lia.
Qed.
(* the stretch reaches F_(a+1)(m) where m is not too small *)
Lemma hi_enough : forall a m, 1 <= a -> 1 <= m -> (a - 1) * (m + a - 1) <= m * (m + 1) -> F (S a) m <= hi (S a) m.
Proof.
  intros a m Ha Hm H. destruct (Nat.eq_dec a 1) as [->|N]. { rewrite F_two. simpl hi. lia. }
  pose proof (hi_F (S a) m). destruct a as [|[|p]]; try lia. replace (S (S (S p)) - 3) with p in * by lia.
  replace (S (S (S p)) - 2) with (S p) in * by lia.
  destruct m as [|q]; try lia. replace (S q - 1) with q in * by lia.
  assert (u p (S q + 1) <= u (S p) q); [|lia].
  pose proof (proj1 (u_ratio _ p q (le_n _))) as U1. pose proof (proj2 (u_ratio _ p q (le_n _))) as U2.
  pose proof (proj2 (u_ratio _ p (S q) (le_n _))) as U3. replace (S q + 1) with (S (S q)) in * by lia.
  replace (S (S p) - 1) with (S p) in * by lia.
  replace (S q + S (S p) - 1) with (p + q + 2) in H by lia.
  assert (E : S q * S (S q) * u p (S (S q)) = (p + q + 2) * S p * u (S p) q).
  { replace (S q * S (S q) * u p (S (S q))) with (S q * (S (S q) * u p (S (S q)))) by ring. rewrite U3.
    replace (S q * ((p + S q + 1) * u p (S q))) with ((p + S q + 1) * (S q * u p (S q))) by ring. rewrite U2.
    replace ((p + q + 2) * S p * u (S p) q) with ((p + q + 2) * (S p * u (S p) q)) by ring. rewrite U1.
    replace (p + S q + 1) with (p + q + 2) by lia. auto. }
  destruct (le_lt_dec (u p (S (S q))) (u (S p) q)) as [D|D]; auto. exfalso.
  assert (S p * (p + q + 2) * u (S p) q <= S q * S (S q) * u (S p) q) by (apply Nat.mul_le_mono_r; lia).
  assert (S q * S (S q) * u (S p) q < S q * S (S q) * u p (S (S q))) by (apply Nat.mul_lt_mono_pos_l; lia).
  replace ((p + q + 2) * S p * u (S p) q) with (S p * (p + q + 2) * u (S p) q) in E by ring. lia.
Qed.

(* Exact: where m (m+1) >= (a-1) (m+a-1), so always at a = 1, 2, and wherever m >= 2 a - 3 *)
Theorem longest_exact : forall a m t, 1 <= a -> 1 <= m -> (a - 1) * (m + a - 1) <= m * (m + 1) ->
  (V false t m <= a * t <-> t <= F (S a) m).
Proof.
  intros a m t Ha Hm H. split. apply longest_most; auto. intro T. destruct (le_lt_dec t (L a m)) as [B|B].
  apply longest_least; auto.
  pose proof (hi_enough a m Ha Hm H). pose proof (lo_L a m Ha Hm). pose proof (on_the_line (S a) m t).
  simpl Nat.mul in *. lia.
Qed.
(* in particular from m = 2a - 3 on *)
Corollary longest_exact_from : forall a m t, 1 <= a -> 1 <= m -> 2 * a - 3 <= m ->
  (V false t m <= a * t <-> t <= F (S a) m).
Proof.
  intros a m t Ha Hm H. apply longest_exact; auto. destruct (le_lt_dec a 2). { destruct a as [|[|[|a]]]; simpl; lia. }
  remember (m - (2 * a - 3)) as d. assert (m = 2 * a - 3 + d) by lia. clear Heqd H. destruct a as [|[|[|c]]]; try lia.
Qed.
End Longest.
