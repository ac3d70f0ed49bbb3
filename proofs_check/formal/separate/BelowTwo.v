(* The least cost in closed form wherever it is at most two forwards a step: 2 t - l with the largest l that fits. *)
From Membptt Require Import TwoBranches Lines Longest Chen.
Arguments Nat.div : simpl never.
Arguments Nat.modulo : simpl never.
Arguments Nat.mul : simpl nomatch.

(* l + (l-1) + ..: e terms, none below 0 *)
Fixpoint stairs (l e : nat) := match e with 0 => 0 | S k => stairs l k + (l - k) end.
(* the first k of l + (l-1) + .. and the rest *)
Lemma stairs_all : forall l k, k <= l -> stairs l k + tri (S l - k) = tri (S l).
Proof.
  intros l. induction k; intro H. simpl. lia. cbn [stairs]. specialize (IHk ltac:(lia)).
  replace (S l - S k) with (l - k) by lia.
  replace (S l - k) with (S (l - k)) in IHk by lia. change (tri (S (l - k))) with (tri (l - k) + (l - k)) in IHk. lia.
Qed.
(* all l terms *)
Lemma stairs_top : forall l e, l <= e -> stairs l e = tri (S l).
Proof. intros l e H. induction H. pose proof (stairs_all l l (le_n _)). replace (S l - l) with 1 in * by lia.
simpl in *. lia. simpl in *. lia. Qed.
(* more terms, more *)
Lemma stairs_mono : forall l e f, e <= f -> stairs l e <= stairs l f.
Proof. intros l e f H. induction H; simpl; lia. Qed.

Section Closed.
Context {size : Size}.

(* S(n) is S(n - alpha) and n more *)
Lemma ceils_back : forall n, alpha <= n -> ceils n = ceils (n - alpha) + n.
Proof.
  pose proof alpha2. intros n Hn. pose proof (ceils_closed n) as E. pose proof (ceils_closed (n - alpha)) as E'.
  assert ((n - alpha) mod alpha = n mod alpha) as M. { replace n with (n - alpha + 1 * alpha) at 2 by
    lia. now rewrite Nat.mod_add by lia. }
  rewrite M in E'. remember (n - alpha) as k. assert (n = k + alpha) by lia. clear Heqk M.
  set (z := n mod alpha * (alpha - n mod alpha)) in *.
  assert (2 * alpha * ceils n = 2 * alpha * (ceils k + n)). { rewrite Nat.mul_add_distr_l, E, E'. rewrite H0. ring. }
  apply Nat.mul_cancel_l in H1; lia.
Qed.
(* S(n + 1) term by term *)
Lemma ceils_S : forall n, ceils (S n) = ceils n + (1 + n / alpha).
Proof. intro n. cbn [ceilings]. rewrite ceil_S. auto. Qed.

(* (alpha-1) l P >= (2 (alpha-1) l + 1) t - weight l m; R as P with one slot less, and a bit *)
Definition weight l m := ceils (S m) + (alpha - 1) * stairs l (1 + m / alpha).
(* at no slot *)
Lemma weight_0 : forall l, weight l 0 = 1 + (alpha - 1) * l.
Proof. pose proof alpha2. intro l. unfold weight. rewrite ceils_S. rewrite Nat.div_0_l by lia. simpl. lia. Qed.
(* how much a slot adds, at least *)
Lemma weight_S : forall l m, weight l m + (1 + S m / alpha) <= weight l (S m).
Proof.
  pose proof alpha2. intros l m. unfold weight. rewrite (ceils_S (S m)).
  pose proof (Nat.div_le_mono m (S m) alpha ltac:(lia) ltac:(lia)).
  pose proof (stairs_mono l (1 + m / alpha) (1 + S m / alpha) ltac:(lia)).
  pose proof (Nat.mul_le_mono_l _ _ (alpha - 1) H1). lia.
Qed.
(* more slots, more *)
Lemma weight_mono : forall l m n, m <= n -> weight l m <= weight l n.
Proof. intros l m n H. induction H; auto. pose proof (weight_S l m0). lia. Qed.
(* how much alpha slots add, at least *)
Lemma weight_release : forall l m, alpha <= m ->
  weight l (m - alpha) + (1 + (m - alpha) / alpha) + (alpha - 1) * l + 1 <= weight l m.
Proof.
  pose proof alpha2. intros l m Hm. unfold weight. rewrite (ceils_back (S m)) by lia.
  replace (S m - alpha) with (S (m - alpha)) by lia.
  pose proof (Nat.div_str_pos m alpha). assert (m / alpha = 1 + (m - alpha) / alpha) as D.
  { replace m with (m - alpha + 1 * alpha) at 1 by lia. rewrite Nat.div_add by lia. lia. }
  rewrite <- D. simpl stairs at 2. pose proof (Nat.div_mod m alpha ltac:(lia)). set (q := m / alpha) in *.
  assert (m + 1 + (alpha - 1) * (l - q) >= q + (alpha - 1) * l + 1); [|lia].
  remember (alpha - 1) as b. assert (alpha = S b) as HA by lia. rewrite HA in H1.
  destruct (le_lt_dec q l) as [Q|Q]. { remember (l - q) as d. assert (l = q + d) by lia. subst l. lia. }
  replace (l - q) with 0 by lia. pose proof (Nat.mul_le_mono_l l q b). lia.
Qed.
(* between slope 2 and slope 3: a line for every l *)
Lemma line_between : forall l n b t m, 1 <= l -> t + m <= n -> 1 <= m ->
  (2 * ((alpha - 1) * l) + 1) * t <= (alpha - 1) * l * W b t m + (if b then weight l (m - 1) + (1 + (m - 1) / alpha)
    else weight l m).
Proof.
  pose proof alpha2 as A. intros l n b t m Hl. assert (LL : 1 <= (alpha - 1) * l) by nia.
  remember ((alpha - 1) * l) as c eqn:EC.
  revert b t m. induction n; intros b t m Hn Hm; [lia|].
  assert (W0 : 2 + c <= (if b then weight l (m - 1) + (1 + (m - 1) / alpha) else weight l m)).
  { pose proof (weight_0 l). rewrite <- EC in H. pose proof (weight_S l (m - 1)).
      replace (S (m - 1)) with m in * by lia.
    pose proof (weight_mono l 0 (m - 1)). destruct b; lia. }
  destruct (Nat.eq_dec t 0) as [->|T0]. { lia. }
  destruct (Nat.eq_dec t 1) as [->|T1]. { rewrite W_1. lia. }
  destruct (Nat.eq_dec m 1) as [->|N].
  { apply Nat.le_trans with (c * W b t 1 + (2 + c)); [|lia]. rewrite W_tri, V_tri_row.
    assert (2 * t <= tri (S t) + 1). { pose proof (tri_line 2 t). change (tri 2) with 1 in *. lia. }
    assert (3 * t <= tri (S t) + 3). { pose proof (tri_line 3 t). change (tri 3) with 3 in *. lia. }
    remember (c - 1) as d. assert (c = S d) as -> by lia. pose proof (Nat.mul_le_mono_l _ _ d H). lia. }
  destruct (W_in b t m) as [(y & Y & ->)|[(-> & ->)|(-> & B & ->)]]; try lia.
  - pose proof (line_1 b y m Hm) as L1. pose proof (line_2 _ b y m (le_n _) Hm) as L2.
    pose proof (IHn false (t - y) (m - 1) ltac:(lia) ltac:(lia)) as I.
    pose proof (weight_S l (m - 1)). replace (S (m - 1)) with m in * by lia. cbv iota in I.
    assert ((2 * c + 1) * t = (2 * c + 1) * y + (2 * c + 1) * (t - y)) as E.
    { replace t with (y + (t - y)) at 1 by lia. apply Nat.mul_add_distr_l. }
    assert ((c + 1) * y <= c * W b y m + (1 + (if b then (m - 1) / alpha else m / alpha))) as C.
    { remember (c - 1) as d. assert (c = S d) as -> by lia. pose proof (Nat.mul_le_mono_l _ _ d L1). destruct b; lia. }
    rewrite E. destruct b; lia.
  - pose proof (IHn false t (m - 1) ltac:(lia) ltac:(lia)). cbv iota in H. lia.
  - pose proof (IHn true (t - 1) (m + 1 - alpha) ltac:(lia) ltac:(lia)) as I. cbv iota in I.
    replace (m + 1 - alpha - 1) with (m - alpha) in I by lia.
    pose proof (weight_release l m B) as R. rewrite <- EC in R.
    assert ((2 * c + 1) * t = (2 * c + 1) * (t - 1) + (2 * c + 1)) as E.
    { replace t with (t - 1 + 1) at 1 by lia. lia. }
    rewrite E. lia.
Qed.

(* in alpha (l - 1) slots: l (l+1) / 2 steps, the start given up at once *)
Lemma corner_released : forall l t, 2 <= l -> l <= t <= tri (S l) ->
  1 + V true (t - 1) (alpha * (l - 1) + 1 - alpha) + l <= 2 * t.
Proof.
  pose proof alpha2 as A. induction l as [|l IH]; intros t Hl Ht; [lia|]. replace (S l - 1) with l by lia.
  assert (alpha * 1 <= alpha * l) by (apply Nat.mul_le_mono_l; lia).
  assert (V true (t - 1) (alpha * l + 1 - alpha) + l <= 2 * (t - 1)); [|lia].
  destruct (Nat.eq_dec l 1) as [->|N].
  { replace (alpha * 1 + 1 - alpha) with 1 by lia. rewrite V_tri_row. simpl tri in *. assert (t = 2 \/ t = 3) as [->
    | ->] by lia; simpl; lia. }
  assert (alpha * 2 <= alpha * l) by (apply Nat.mul_le_mono_l; lia).
  assert (alpha * l + 1 - alpha = S (alpha * (l - 1))) as ->.
  { destruct l; [lia|]. replace (S l - 1) with l by lia. lia. }
  pose proof (V_less true (t - 1) (S (alpha * (l - 1)))) as Q.
  assert (alpha * 1 <= alpha * (l - 1)) by (apply Nat.mul_le_mono_l; lia).
  replace (S (alpha * (l - 1)) - 1) with (alpha * (l - 1)) in Q by lia.
  assert (R : forall u, 1 <= u -> V false u (alpha * (l - 1)) <= 1 + V true (u - 1) (alpha * (l - 1) + 1 - alpha)) by
    (intros; apply V_release; lia).
  destruct (le_lt_dec (t - 1) (tri (S l))) as [B|B].
  - specialize (IH (t - 1) ltac:(lia) ltac:(lia)). specialize (R (t - 1) ltac:(lia)). lia.
  - simpl tri in Ht, B. set (y := t - 1 - (tri l + l)). assert (l <= tri l + l) by lia.
    pose proof (V_hidden true (t - 1) y (S (alpha * (l - 1))) ltac:(lia) ltac:(lia)) as Hc.
    replace (S (alpha * (l - 1)) - 1) with (alpha * (l - 1)) in Hc by lia.
    specialize (IH (t - 1 - y) ltac:(lia) ltac:(simpl tri; lia)). specialize (R (t - 1 - y) ltac:(lia)).
    pose proof (V_less true y (S (alpha * (l - 1))) ltac:(lia)) as Q'.
    replace (S (alpha * (l - 1)) - 1) with (alpha * (l - 1)) in Q' by lia.
    pose proof (flat (alpha * (l - 1)) ltac:(lia) y) as Fl. rewrite (Nat.mul_comm alpha), Nat.div_mul in Fl by lia.
    rewrite (Nat.mul_comm (l - 1)) in Fl. lia.
Qed.
(* so many steps *)
Lemma corner_reached : forall l t, 2 <= l -> l <= t <= tri (S l) -> V false t (alpha * (l - 1)) + l <= 2 * t.
Proof.
  pose proof alpha2 as A. intros l t Hl Ht. assert (alpha * 1 <= alpha * (l - 1)) by (apply Nat.mul_le_mono_l; lia).
  pose proof (V_release t (alpha * (l - 1)) ltac:(lia) ltac:(lia)). pose proof (corner_released l t Hl Ht). lia.
Qed.
(* S where its line and the next one meet *)
Lemma ceils_corner : forall l, ceils (alpha * l + 1) = alpha * tri (S l) + (l + 1).
Proof.
  pose proof alpha2 as A. induction l. { replace (alpha * 0 + 1) with 1 by lia. rewrite ceils_S, Nat.div_0_l by lia.
    simpl. lia. }
  rewrite ceils_back by lia. replace (alpha * S l + 1 - alpha) with (alpha * l + 1) by lia. rewrite IHl. simpl tri. lia.
Qed.
(* S grows *)
Lemma ceils_mono : forall m n, m <= n -> ceils m <= ceils n.
Proof. intros m n H. induction H; auto. rewrite ceils_S. lia. Qed.

(* it can be done *)
Theorem closed_reached : forall l m t, 1 <= l -> 1 <= m -> l <= 1 + m / alpha -> l <= t ->
  t + (alpha - 1) * tri l <= ceils (S m) ->
  V false t m + l <= 2 * t.
Proof.
  pose proof alpha2 as A. intros l. induction m as [|m IH]; intros t Hl Hm Hc Hlt Ht; [lia|].
  destruct (le_lt_dec t (1 + S m / alpha)) as [B|B]. { pose proof (flat (S m) Hm t B). lia. }
  destruct (Nat.eq_dec m 0) as [->|M].
  { assert (l = 1) as ->. { rewrite Nat.div_small in Hc by lia. lia. } rewrite Nat.div_small in B by
    lia. rewrite !ceils_S in Ht. rewrite Nat.div_0_l, Nat.div_small in Ht by lia. simpl in Ht.
    assert (t = 2) as -> by lia. reflexivity. }
  destruct (le_lt_dec l (1 + m / alpha)) as [C|C].
  - rewrite ceils_S in Ht. pose proof (V_less false t (S m) ltac:(lia)) as Q. replace (S m - 1) with m in Q by lia.
    destruct (le_lt_dec (t + (alpha - 1) * tri l) (ceils (S m))) as [D|D].
    { specialize (IH t Hl ltac:(lia) C Hlt D). lia. }
    set (y := t + (alpha - 1) * tri l - ceils (S m)).
    assert (l + (alpha - 1) * tri l <= ceils (S m)) as E.
    { pose proof (ceils_corner (l - 1)) as K. assert (alpha * (l - 1) + 1 <= S m) as K2.
      { pose proof (Nat.mul_div_le m alpha ltac:(lia)). assert (alpha * (l - 1) <= alpha * (m / alpha)) by
        (apply Nat.mul_le_mono_l; lia). lia. }
      apply ceils_mono in K2. replace (S (l - 1)) with l in K by lia.
      assert ((alpha - 1) * tri l <= alpha * tri l) by (apply Nat.mul_le_mono_r; lia). lia. }
    pose proof (V_hidden false t y (S m) ltac:(lia) ltac:(lia)) as Hh. replace (S m - 1) with m in Hh by lia.
    pose proof (flat (S m) Hm y ltac:(lia)). specialize (IH (t - y) Hl ltac:(lia) C ltac:(lia) ltac:(lia)). lia.
  - pose proof (Nat.div_mod m alpha ltac:(lia)) as E1. pose proof (Nat.mod_upper_bound m alpha ltac:(lia)) as E2.
    pose proof (Nat.div_mod (S m) alpha ltac:(lia)) as E3.
    pose proof (Nat.mod_upper_bound (S m) alpha ltac:(lia)) as E4.
    set (q := m / alpha) in *. set (q' := S m / alpha) in *.
    assert (q' = 1 + q). { assert (q' < 2 + q); [|lia]. apply Nat.mul_lt_mono_pos_l with alpha; lia. }
    assert (l = 2 + q) as -> by lia. assert (S m = alpha * (2 + q - 1)) as SM by (replace (2 + q - 1) with (1 + q) by
      lia; rewrite H in E3; lia).
    rewrite SM in *. apply corner_reached. lia. split; [lia|].
    replace (S (alpha * (2 + q - 1))) with (alpha * (S q) + 1) in Ht by (replace (2 + q - 1) with (S q) by lia; lia).
    rewrite ceils_corner in Ht.
    replace (2 + q) with (S (S q)) in * by lia. change (tri (S (S (S q)))) with (tri (S (S q)) + S (S q)).
    remember (tri (S (S q))) as z.
    remember (alpha - 1) as b. assert (alpha = S b) as AE by lia. rewrite AE in Ht. lia.
Qed.
(* exactly then *)
Theorem msm_plus_closed : forall l t m, 1 <= l -> 1 <= m ->
  (V false t m + l <= 2 * t <-> l <= 1 + m / alpha /\ l <= t /\ t + (alpha - 1) * tri l <= ceils (m + 1)).
Proof.
  pose proof alpha2 as A. intros l t m Hl Hm. replace (m + 1) with (S m) by lia. split.
  - intro H. pose proof (line_2 _ false t m (le_n _) Hm) as L2. cbv iota in L2. pose proof (V_ge t false m Hm) as L1.
    rewrite two_branches in L2 by auto.
    repeat split; try lia. destruct l as [|k]; [lia|]. destruct (Nat.eq_dec k 0) as [->|K].
    + pose proof (line 3 t m ltac:(lia) Hm) as L3. rewrite F_three in L3 by auto. simpl tri. lia.
    + pose proof (line_between k _ false t m ltac:(lia) (le_n _) Hm) as LB. cbv iota in LB.
      rewrite two_branches in LB by auto.
      unfold weight in LB. rewrite stairs_top in LB by lia. pose proof (tri_twice k) as TT.
      set (c := (alpha - 1) * k) in *. assert (2 * ((alpha - 1) * tri (S k)) = c * S k) as CC.
      { unfold c. replace ((alpha - 1) * k * S k) with ((alpha - 1) * (k * S k)) by ring. rewrite <- TT. ring. }
      pose proof (Nat.mul_le_mono_l _ _ c H) as HM. lia.
  - intros (Hc & Hlt & Ht). apply closed_reached; auto.
Qed.
(* every legal schedule *)
Theorem any_closed : forall l t m, 1 <= l -> 1 <= m ->
  ((exists s, legal (SEPARATE alpha) m t s = true /\ cost s + l <= 2 * t) <->
   l <= 1 + m / alpha /\ l <= t /\ t + (alpha - 1) * tri l <= ceils (m + 1)).
Proof.
  intros l t m Hl Hm. rewrite <- msm_plus_closed by auto. split.
  - intros (s & P & C). pose proof (P_lower t m s Hm P). lia.
  - intro C. destruct (P_reached t m Hm) as (s & P & E). exists s. repeat split; auto. lia.
Qed.
End Closed.
