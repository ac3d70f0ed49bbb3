(* MSM+ solved, the other half: its least cost in closed form at every t and m, and what to store, everywhere. *)
From Membptt Require Import TwoBranches Lines Longest Chen BelowTwo Rational.
From Membptt Require Export Stretches.
Arguments Nat.div : simpl never.
Arguments Nat.modulo : simpl never.
Arguments Nat.mul : simpl nomatch.

Section Solved.
Context {size : Size}.
Notation T := (reach alpha).
Notation G := (saved alpha).
Notation N := (count alpha).
(* the steps of a stretch between two forwards saved *)
Notation gap l := ((alpha - 1) * l).


(* where a stretch begins, by the ends of the line of slope r *)
Definition first l r m := if l <? 1 + m / alpha then T (S l) r m else lo r m.
(* which is what the statements say *)
Lemma first_is : forall l r m, 2 <= r -> 1 <= m -> start alpha l r m = first l r m.
Proof.
  intros l r m Hr Hm. unfold start, first. destruct (l <? 1 + m / alpha); auto. destruct r as [|[|[|r]]]; try lia;
    auto.
  rewrite reach_first by lia. auto.
Qed.

(* upper bounds: slope 2 *)
Lemma value_two : forall l t m, 1 <= l -> 1 <= m -> first l 2 m <= t <= T l 2 m -> V false t m + G l 2 m + extra
  alpha l 2 m t <= 2 * t.
Proof.
  pose proof alpha2 as A. intros l t m Hl Hm Ht. assert (K1 : 1 <= gap l) by nia. unfold first, extra in *.
  destruct (Nat.ltb_spec l (1 + m / alpha)) as [C|C].
  - pose proof (reach_next l 2 m Hl ltac:(lia) Hm) as RN. rewrite count_two in RN.
    apply Nat.ltb_lt in C as CB. rewrite CB in RN. rewrite saved_two, Nat.min_l by lia. pose proof (room l m) as B.
    pose proof (room (S l) m) as B'. rewrite !reach_two in *.
    rewrite (Nat.min_l l) in * by lia. rewrite (Nat.min_l (S l)) in * by lia.
    destruct (Nat.eq_dec t (ceils (S m) - (alpha - 1) * tri (S l))) as [E|E].
    + pose proof (closed_reached (S l) m t ltac:(lia) Hm ltac:(lia)) as Q.
      replace (ceils (S m) - (alpha - 1) * tri l - t) with (1 * gap l) by lia. rewrite Nat.div_mul by lia. lia.
    + pose proof (closed_reached l m t Hl Hm ltac:(lia)) as Q. rewrite Nat.div_small by lia. lia.
  - rewrite reach_last in Ht by lia. rewrite saved_last by lia. pose proof (on_the_line_top 2 m t ltac:(lia) Hm Ht).
    lia.
Qed.
(* the beginning lies before the end, and after the beginning of the slope *)
Lemma start_le : forall l r m, 1 <= l -> 2 <= r -> 1 <= m -> lo r m <= first l r m <= T l r m.
Proof.
  intros l r m Hl Hr Hm. pose proof (lo_top r m Hr Hm). unfold first. destruct (Nat.ltb_spec l (1 + m / alpha)) as
    [C|C].
  - pose proof (reach_top (S l) r m ltac:(lia) Hr Hm). pose proof (reach_le l r m Hl Hr Hm). lia.
  - rewrite reach_last by auto. lia.
Qed.
(* the beginning obeys Pascal's rule too, unless a stretch is born *)
Lemma start_step : forall l r m, 1 <= l <= 1 + m / alpha -> 3 <= r -> 2 <= m -> first l r m = first l (r - 1) m +
  (if l <? 1 + m / alpha then T (S l) r (m - 1) else lo r (m - 1)).
Proof.
  intros l r m Hl Hr Hm. unfold first. destruct (Nat.ltb_spec l (1 + m / alpha)) as [C|C].
  - unfold reach. rewrite pascal_step by lia. auto.
  - apply lo_step; lia.
Qed.
(* the split of a stretch *)
Definition cut_at l r t m := Nat.max (first l (r - 1) m) (t - T l r (m - 1)).
(* which is what the statements say *)
Lemma cut_is : forall l r t m, 3 <= r -> 1 <= m -> split alpha l r t m = cut_at l r t m.
Proof. intros l r t m Hr Hm. unfold split, cut_at. destruct r as [|[|[|r]]]; try lia. rewrite first_is by lia. auto.
  Qed.
(* that it is done at that cost, everywhere in a stretch *)
Definition done r m := forall l t, 1 <= l <= 1 + m / alpha -> first l r m <= t <= T l r m ->
  V false t m + G l r m + extra alpha l r m t <= r * t.
(* both parts lie in stretches of theirs, and at least one on the line *)
Lemma split_done : forall l r t m, 3 <= r -> 2 <= m -> 1 <= l <= 1 + m / alpha -> first l r m <= t <= T l r m ->
  done (r - 1) m -> done r (m - 1) -> let y := cut_at l r t m in
  1 <= y < t /\ y + V false y m + V false (t - y) (m - 1) + G l r m + extra alpha l r m t <= r * t.
Proof.
  pose proof alpha2 as A. intros l r t m Hr Hm Hl Ht DL DR y. pose proof (start_step l r m Hl Hr Hm) as SS.
  pose proof (start_le l (r - 1) m ltac:(lia) ltac:(lia) ltac:(lia)) as S1. pose proof (lo_pos (r - 1) m ltac:(lia)
    ltac:(lia)) as P1.
  assert (TS : forall k, T k r m = T k (r - 1) m + T k r (m - 1)) by (intro; unfold reach; now rewrite pascal_step by
    lia).
  assert (GS : G l r m = G l (r - 1) m + G l r (m - 1)) by (unfold saved; now rewrite pascal_step by lia).
  pose proof (Nat.div_le_mono (m - 1) m alpha ltac:(lia) ltac:(lia)) as D1.
  assert (D2 : m / alpha <= 1 + (m - 1) / alpha).
  { replace (1 + (m - 1) / alpha) with ((m - 1 + 1 * alpha) / alpha) by (rewrite Nat.div_add; lia).
    apply Nat.div_le_mono; lia. }
  assert (K1 : 1 <= gap l) by nia. pose proof (lo_pos r (m - 1) ltac:(lia) ltac:(lia)) as P2.
  pose proof (reach_top l r (m - 1) ltac:(lia) ltac:(lia) ltac:(lia)) as RT. pose proof (lo_top r (m - 1) ltac:(lia)
    ltac:(lia)) as LT.
  (* the stretch of the right part *)
  set (k := Nat.min l (1 + (m - 1) / alpha)). assert (Hk : 1 <= k <= 1 + (m - 1) / alpha) by lia.
  assert (TK : T k r (m - 1) = T l r (m - 1) /\ G k r (m - 1) = G l r (m - 1)).
  { destruct (le_lt_dec l (1 + (m - 1) / alpha)) as [C|C]. { replace k with l by lia. auto. }
    split; [rewrite !reach_last by lia | rewrite !saved_last by lia]; auto. }
  destruct TK as [TK GK]. set (z := t - y).
  assert (SK : first k r (m - 1) <= (if l <? 1 + m / alpha then T (S l) r (m - 1) else lo r (m - 1))).
  { unfold first. destruct (Nat.ltb_spec k (1 + (m - 1) / alpha)), (Nat.ltb_spec l (1 + m / alpha)); try lia.
    - replace k with l by lia. auto.
    - pose proof (reach_top (S l) r (m - 1) ltac:(lia) ltac:(lia) ltac:(lia)). lia. }
  pose proof (start_le k r (m - 1) ltac:(lia) ltac:(lia) ltac:(lia)) as LO.
  assert (Y : first l (r - 1) m <= y <= T l (r - 1) m) by (unfold y, cut_at; specialize (TS l); lia).
  assert (Z : first k r (m - 1) <= z <= T k r (m - 1)) by (unfold z, y, cut_at in *; specialize (TS l); lia).
  assert (YT : y < t) by (unfold y, cut_at; lia). assert (E : t = y + z) by (unfold z; lia). split; [lia|].
  specialize (DL l y Hl Y). specialize (DR k z Hk Z). rewrite GK in DR.
  assert (X : extra alpha l r m t <= extra alpha l (r - 1) m y + extra alpha k r (m - 1) z).
  { unfold extra. destruct (Nat.ltb_spec l (1 + m / alpha)) as [C|C]; [|lia]. rewrite (TS l).
    destruct (le_lt_dec (T l r (m - 1)) z) as [B|B].
    - replace (T l (r - 1) m + T l r (m - 1) - t) with (T l (r - 1) m - y) by lia. lia.
    - assert (YS : y = T (S l) (r - 1) m).
      { unfold y, cut_at, first in *. apply Nat.ltb_lt in C. rewrite C in *. lia. }
      pose proof (reach_next l (r - 1) m ltac:(lia) ltac:(lia) ltac:(lia)) as RN.
      replace (T l (r - 1) m - y) with (N l (r - 1) m * gap l) by lia. rewrite Nat.div_mul by lia.
      replace (T l (r - 1) m + T l r (m - 1) - t) with (T l r (m - 1) - z + N l (r - 1) m * gap l) by lia.
      rewrite Nat.div_add by lia. destruct (Nat.ltb_spec k (1 + (m - 1) / alpha)) as [Q|Q].
      + replace k with l in * by lia. lia.
      + apply Nat.ltb_lt in C as CB. exfalso. assert (first l (r - 1) m = T (S l) (r - 1) m) by (unfold first; now
        rewrite CB).
        pose proof (reach_last l r (m - 1) ltac:(lia) ltac:(lia) ltac:(lia)).
        pose proof (reach_last (S l) r (m - 1) ltac:(lia) ltac:(lia) ltac:(lia)). lia. }
  remember (r - 1) as p. assert (r = S p) as -> by lia.
  replace (S p * t) with (S p * (y + z)) by now rewrite E. rewrite Nat.mul_add_distr_l. simpl Nat.mul at 1. lia.
Qed.
(* it is done *)
Lemma all_done : forall r m, 2 <= r -> 1 <= m -> done r m.
Proof.
  apply pascal_ind.
  - intros m Hm l t Hl Ht. apply value_two; auto; lia.
  - intros r Hr l t Hl Ht. rewrite one_slot in Hl. assert (l = 1) as -> by lia. unfold first, extra in *.
    rewrite one_slot in *. change (1 <? 1 + 0) with false in *. cbv iota in *. rewrite saved_last by (rewrite
      ?one_slot; lia).
    rewrite reach_last in Ht by (rewrite ?one_slot; lia). pose proof (on_the_line_top r 1 t ltac:(lia) ltac:(lia)
      Ht). lia.
  - intros r m Hr Hm H1 H2 l t Hl Ht. pose proof (split_done l r t m Hr Hm Hl Ht H1 H2) as [Y C].
    pose proof (V_hidden false t (cut_at l r t m) m ltac:(lia) Y). lia.
Qed.
(* and no cheaper *)
Lemma least : forall l r t m, 1 <= l <= 1 + m / alpha -> 2 <= r -> 1 <= m -> t <= T l r m ->
  r * t <= V false t m + G l r m + extra alpha l r m t.
Proof.
  intros l r t m Hl Hr Hm Ht. unfold extra. destruct (Nat.ltb_spec l (1 + m / alpha)) as [C|C].
  - apply solved_least; auto; lia.
  - rewrite saved_last by lia. pose proof (line r t m ltac:(lia) Hm). lia.
Qed.
(* the least cost in closed form *)
Theorem solved : forall l r t m, 1 <= l <= 1 + m / alpha -> 2 <= r -> 1 <= m -> start alpha l r m <= t <= T l r m ->
  V false t m + G l r m + extra alpha l r m t = r * t.
Proof.
  intros l r t m Hl Hr Hm Ht. rewrite first_is in Ht by auto. apply Nat.le_antisymm. apply all_done; auto.
  apply least; auto. lia.
Qed.
(* the split that attains it, from two forwards a step on *)
Theorem solved_split : forall l r t m, 1 <= l <= 1 + m / alpha -> 3 <= r -> 2 <= m -> first l r m <= t <= T l r m ->
  1 <= cut_at l r t m < t /\
  V false t m = cut_at l r t m + V false (cut_at l r t m) m + V false (t - cut_at l r t m) (m - 1).
Proof.
  intros l r t m Hl Hr Hm Ht.
  pose proof (all_done (r - 1) m ltac:(lia) ltac:(lia)) as DL. pose proof (all_done r (m - 1) ltac:(lia) ltac:(lia))
    as DR.
  pose proof (split_done l r t m Hr Hm Hl Ht DL DR) as [Y C].
  pose proof (V_hidden false t (cut_at l r t m) m ltac:(lia) Y). pose proof (least l r t m Hl ltac:(lia) ltac:(lia)
    ltac:(lia)). lia.
Qed.
(* the same below two forwards a step, unless a stretch is born with this slot *)
Theorem solved_split_two : forall l t m, 1 <= l <= 1 + (m - 1) / alpha -> 2 <= m -> first l 2 m < t <= T l 2 m ->
  let y := Nat.max 1 (t - T l 2 (m - 1)) in
  1 <= y < t /\ V false t m = y + V false y m + V false (t - y) (m - 1).
Proof.
  pose proof alpha2 as A. intros l t m Hl Hm Ht y. pose proof (Nat.div_le_mono (m - 1) m alpha ltac:(lia) ltac:(lia))
    as D1.
  pose proof (start_le l 2 m ltac:(lia) ltac:(lia) ltac:(lia)) as SL. change (lo 2 m) with (1 + m / alpha) in SL.
  assert (E : extra alpha l 2 m t = 0).
  { unfold first, extra in *. destruct (Nat.ltb_spec l (1 + m / alpha)) as [C|C]; auto.
    pose proof (reach_next l 2 m ltac:(lia) ltac:(lia) ltac:(lia)) as RN. rewrite count_two in RN.
    apply Nat.ltb_lt in C. rewrite C in RN. apply Nat.div_small. lia. }
  pose proof (solved l 2 t m ltac:(lia) ltac:(lia) ltac:(lia) ltac:(rewrite first_is; lia)) as V1.
  rewrite E, saved_two, Nat.min_l in V1 by lia.
  pose proof (room l (m - 1)) as B. rewrite reach_two in Ht. unfold y. rewrite reach_two. replace (S (m - 1)) with m
    in * by lia.
  rewrite (Nat.min_l l) in * by lia. rewrite ceils_S in Ht.
  set (z := ceils m - (alpha - 1) * tri l) in *. assert (Z : l <= z).
  { assert (1 + (m - 1) / alpha <= z) by lia. lia. }
  assert (Y : 1 <= Nat.max 1 (t - z) < t) by lia. split; [exact Y|].
  pose proof (V_hidden false t _ m ltac:(lia) Y). pose proof (flat m ltac:(lia) (Nat.max 1 (t - z)) ltac:(lia)).
  pose proof (closed_reached l (m - 1) (t - Nat.max 1 (t - z)) ltac:(lia) ltac:(lia) ltac:(lia) ltac:(lia)) as R.
  replace (S (m - 1)) with m in R by lia. specialize (R ltac:(lia)). lia.
Qed.
(* together *)
Theorem solved_hidden : forall l r t m, 2 <= m -> 2 <= r -> 1 <= l <= 1 + m / alpha -> start alpha l r m < t <= T l r
  m ->
  (r = 2 -> l <= 1 + (m - 1) / alpha) -> 1 <= split alpha l r t m < t /\
  V false t m = split alpha l r t m + V false (split alpha l r t m) m + V false (t - split alpha l r t m) (m - 1).
Proof.
  intros l r t m Hm Hr Hl Ht Hb. rewrite first_is in Ht by lia. destruct (Nat.eq_dec r 2) as [->|R].
  - apply solved_split_two with (l := l); auto; lia.
  - rewrite cut_is by lia. apply solved_split; auto; lia.
Qed.
(* where one is born, and where a forward a step is enough, the start is given up *)
Theorem solved_release : forall t m, alpha <= m -> 1 <= t ->
  t <= 1 + m / alpha \/ (m mod alpha = 0 /\ t <= T (1 + m / alpha) 2 m) ->
  V false t m = 1 + V true (t - 1) (m + 1 - alpha).
Proof.
  pose proof alpha2 as A. intros t m Ha Ht C. assert (Hm : 1 <= m) by lia. rewrite reach_last in C by lia.
  pose proof (V_release t m Ha Ht) as R.
  destruct (le_lt_dec t (1 + m / alpha)) as [B|B].
  - pose proof (V_ge t false m Hm). assert (V true (t - 1) (m + 1 - alpha) <= t - 1); [|lia].
    assert (m / alpha = 1 + (m - alpha) / alpha) as D.
    { replace m with (m - alpha + 1 * alpha) at 1 by lia. rewrite Nat.div_add by lia. lia. }
    destruct (Nat.eq_dec m alpha) as [->|M].
    + rewrite Nat.sub_diag, Nat.div_0_l in D by lia. assert (t = 1 \/ t = 2) as [-> | ->] by lia; simpl Nat.sub.
      rewrite V_none. lia. rewrite V_1. lia.
    + pose proof (V_less true (t - 1) (m + 1 - alpha) ltac:(lia)). replace (m + 1 - alpha - 1) with (m - alpha) in *
      by lia.
      pose proof (flat (m - alpha) ltac:(lia) (t - 1) ltac:(lia)). lia.
  - destruct C as [C|[M C]]; [lia|]. pose proof (line 2 t m ltac:(lia) Hm) as L2. rewrite F_two in L2.
    pose proof (Nat.div_mod m alpha ltac:(lia)) as E. rewrite M, Nat.add_0_r in E. set (q := m / alpha) in *.
    pose proof (corner_released (S q) t) as K. replace (S q - 1) with q in K by lia. rewrite <- E in K.
    assert (1 <= q) by (destruct q; lia).
    rewrite top_two in C. fold q in C. replace (S m) with (alpha * q + 1) in C by lia. rewrite ceils_corner in C.
    change (1 + q) with (S q) in C. assert ((alpha - 1) * tri (S q) + tri (S q) = alpha * tri (S q)) as P.
    { replace alpha with (alpha - 1 + 1) at 2 by lia. ring. }
    specialize (K ltac:(lia) ltac:(cbn [tri] in *; lia)). lia.
Qed.
(* A start that is kept, where P meets it: one slot for it, n for the rest. At a forward a step internal states are
   stored, *)
Theorem solved_kept_flat : forall t n, alpha <= n -> 2 <= t <= 1 + n / alpha ->
  V true t (S n) = 1 + V true (t - 1) (S n - alpha).
Proof.
  pose proof alpha2 as A. intros t n Hn Ht. pose proof (V_internal true t 1 (S n) ltac:(lia) ltac:(lia) ltac:(lia))
    as I.
  simpl Nat.sub in I at 3. rewrite V_none, Nat.add_0_r in I. pose proof (V_ge t true (S n) ltac:(lia)).
  assert (V true (t - 1) (S n - alpha) <= t - 1); [|lia]. assert (n / alpha = 1 + (n - alpha) / alpha) as D.
  { replace n with (n - alpha + 1 * alpha) at 1 by lia. rewrite Nat.div_add by lia. lia. }
  destruct (Nat.eq_dec n alpha) as [->|M].
  - rewrite Nat.sub_diag, Nat.div_0_l in D by lia. assert (t = 2) as -> by lia. simpl Nat.sub. rewrite V_1. lia.
  - pose proof (V_less true (t - 1) (S n - alpha) ltac:(lia)). replace (S n - alpha - 1) with (n - alpha) in * by lia.
    pose proof (flat (n - alpha) ltac:(lia) (t - 1) ltac:(lia)). lia.
Qed.
(* and beyond a hidden state *)
Theorem solved_kept : forall t n, alpha <= n ->
  1 + n / alpha < t <= 1 + n / alpha + T (1 + n / alpha) 2 n -> let y := Nat.max 1 (t - T (1 + n / alpha) 2 n) in
  1 <= y < t /\ V true t (S n) = y + V true y (S n) + V false (t - y) n.
Proof.
  pose proof alpha2 as A. intros t n Ha Ht y. assert (Hn : 1 <= n) by lia. unfold y. clear y.
  rewrite reach_last in * by lia. set (y := Nat.max 1 (t - top 2 n)). pose proof (lo_top 2 n ltac:(lia) Hn) as LT.
    change (lo 2 n) with (1 +
    n / alpha) in LT.
  assert (Y : 1 <= y < t) by lia. split; [exact Y|].
  pose proof (V_hidden true t y (S n) ltac:(lia) Y) as H. replace (S n - 1) with n in H by lia.
  pose proof (line_2 _ true t (S n) (le_n _) ltac:(lia)) as L2. cbv iota in L2. rewrite two_branches in L2 by lia.
  replace (S n - 1) with n in L2 by lia.
  pose proof (V_less true y (S n) ltac:(lia)) as Q. replace (S n - 1) with n in Q by lia.
  pose proof (flat n Hn y ltac:(lia)).
  pose proof (on_the_line_top 2 n (t - y) ltac:(lia) Hn) as R. change (lo 2 n) with (1 + n / alpha) in R. rewrite
    F_two in R.
  specialize (R ltac:(lia)). lia.
Qed.
(* every length beyond a forward a step lies in a stretch *)
Theorem solved_everywhere : forall t m, 1 <= m -> 2 + m / alpha <= t ->
  exists r l, 2 <= r /\ 1 <= l <= 1 + m / alpha /\ start alpha l r m <= t <= T l r m.
Proof.
  pose proof alpha2 as A. intros t m Hm Ht.
  assert (E : forall k, (exists r, 2 <= r /\ lo r m <= t <= lo (S r) m) \/ lo (2 + k) m <= t).
  { induction k as [|k [IH|IH]]; auto. { right. simpl lo. lia. }
    destruct (le_lt_dec t (lo (S (2 + k)) m)) as [C|C]; [left | right; simpl Nat.add in *; lia]. exists (2 + k). lia.
      }
  assert (B : forall r n, 2 <= r -> 1 <= n -> r - 1 <= lo r n).
  { intros r n Hr Hn. induction Hn as [|n Hn IH]. { rewrite lo_one; lia. }
    destruct (Nat.eq_dec r 2) as [->|R]. { simpl lo. lia. } rewrite lo_step by lia. replace (S n - 1) with n by lia.
      lia. }
  destruct (E t) as [(r & Hr & Lo)|H]; [|pose proof (B (2 + t) m ltac:(lia) Hm); lia].
  rewrite <- reach_first in Lo by lia. exists r.
  assert (D : forall d l, 1 <= l <= 1 + m / alpha -> 1 + m / alpha - l = d -> t <= T l r m ->
    exists l, 1 <= l <= 1 + m / alpha /\ first l r m <= t <= T l r m).
  { induction d; intros l Hl Q Tl.
    - exists l. split; auto. unfold first. destruct (Nat.ltb_spec l (1 + m / alpha)); lia.
    - destruct (le_lt_dec (T (S l) r m) t) as [C|C].
      + exists l. split; auto. unfold first. destruct (Nat.ltb_spec l (1 + m / alpha)); lia.
      + apply (IHd (S l)); lia. }
  destruct (D _ 1 ltac:(lia) eq_refl ltac:(lia)) as (l & Hl & Hs). exists l.
  rewrite first_is by auto. auto.
Qed.
End Solved.
