(* MSM+ solved, one half: the stretches (r, l) of which its least cost is made, and that nothing costs less. *)
From Membptt Require Import TwoBranches Lines Longest Chen BelowTwo Rational.
Arguments Nat.div : simpl never.
Arguments Nat.modulo : simpl never.
Arguments Nat.mul : simpl nomatch.

(* From r = 2 on, a corner in one slot and Pascal's rule: g r m = g (r-1) m + g r (m-1). *)
Fixpoint pascal (corner : nat -> nat) (two : nat -> nat) (r : nat) : nat -> nat :=
  match r with
  | 0 => fun _ => 0
  | S k => match k with 0 => fun _ => 0 | S j => match j with 0 => two | S _ => row (corner r) (pascal corner two k)
    end
    end
  end.
(* the end of stretch (r, l): its beginning is the end of (r, l + 1) *)
Definition reach (alpha l : nat) : nat -> nat -> nat :=
  pascal (fun r => r) (fun m => ceilings alpha (S m) - (alpha - 1) * tri (Nat.min l (1 + m / alpha))).
(* what is saved of r forwards a step at that end *)
Definition saved (alpha l : nat) : nat -> nat -> nat := pascal tri (fun m => Nat.min l (1 + m / alpha)).
(* what is saved beyond over the stretch (r, l) *)
Definition count (alpha l : nat) : nat -> nat -> nat := pascal (fun _ => 0) (fun m => if l <? 1 + m / alpha then 1
  else 0).
(* where the stretch (r, l) begins *)
Definition start (alpha l r m : nat) := if l <? 1 + m / alpha then reach alpha (S l) r m else
  match r with 2 => 1 + m / alpha | _ => reach alpha 1 (r - 1) m end.
(* what is saved beyond its end *)
Definition extra (alpha l r m t : nat) := if l <? 1 + m / alpha then (reach alpha l r m - t) / ((alpha - 1) * l) else
  0.
(* where to store a hidden state *)
Definition split (alpha l r t m : nat) :=
  Nat.max (match r with 2 => 1 | _ => start alpha l (r - 1) m end) (t - reach alpha l r (m - 1)).

(* its rule *)
Lemma pascal_row : forall c g r m, 3 <= r -> pascal c g r m = row (c r) (pascal c g (r - 1)) m.
Proof. intros c g [|[|[|r]]] m H; try lia. reflexivity. Qed.
(* in one slot *)
Lemma pascal_one : forall c g r, 3 <= r -> pascal c g r 1 = c r.
Proof. intros. rewrite pascal_row by auto. auto. Qed.
(* and beyond *)
Lemma pascal_step : forall c g r m, 3 <= r -> 2 <= m -> pascal c g r m = pascal c g (r - 1) m + pascal c g r (m - 1).
Proof. intros. rewrite (pascal_row c g r m), (pascal_row c g r (m - 1)), row_S by lia. lia. Qed.
(* What holds for r = 2, in one slot, and is handed on by Pascal's rule, holds everywhere. *)
Lemma pascal_ind : forall P : nat -> nat -> Prop, (forall m, 1 <= m -> P 2 m) -> (forall r, 3 <= r -> P r 1) ->
  (forall r m, 3 <= r -> 2 <= m -> P (r - 1) m -> P r (m - 1) -> P r m) -> forall r m, 2 <= r -> 1 <= m -> P r m.
Proof.
  intros P H2 H1 HS r m Hr. revert m. induction Hr; intros n Hn; auto. induction n; [lia|].
  destruct (Nat.eq_dec n 0) as [->|N]. apply H1; lia. apply HS; try lia.
  - replace (S m - 1) with m by lia. apply IHHr. lia.
  - replace (S n - 1) with n by lia. apply IHn. lia.
Qed.

Section Stretches.
Context {size : Size}.
Notation T := (reach alpha).
Notation G := (saved alpha).
Notation N := (count alpha).
(* the steps of a stretch between two forwards saved *)
Notation gap l := ((alpha - 1) * l).

(* r = 2 *)
Lemma reach_two : forall l m, T l 2 m = ceils (S m) - (alpha - 1) * tri (Nat.min l (1 + m / alpha)). Proof.
  reflexivity. Qed.
(* r = 2 *)
Lemma saved_two : forall l m, G l 2 m = Nat.min l (1 + m / alpha). Proof. reflexivity. Qed.
(* r = 2 *)
Lemma count_two : forall l m, N l 2 m = if l <? 1 + m / alpha then 1 else 0. Proof. reflexivity. Qed.
(* one slot *)
Lemma one_slot : 1 / alpha = 0. Proof. pose proof alpha2. apply Nat.div_small. lia. Qed.
(* S(m + 1) is large enough for the difference *)
Lemma room : forall l m, (alpha - 1) * tri (Nat.min l (1 + m / alpha)) + 1 + m / alpha <= ceils (S m).
Proof.
  intros l m. pose proof (top_two_big m) as B. change (tri (2 + m / alpha)) with (tri (1 + m / alpha) + (1 + m /
    alpha))
    in B.
  assert (tri (Nat.min l (1 + m / alpha)) <= tri (1 + m / alpha)) as M.
  { assert (H : forall a b, a <= b -> tri a <= tri b). { intros a b H. induction H; simpl; lia. } apply H. lia. }
  pose proof (Nat.mul_le_mono_l _ _ (alpha - 1) M). lia.
Qed.
(* in one slot *)
Lemma reach_one : forall l r, 1 <= l -> 2 <= r -> T l r 1 = r.
Proof.
  intros l r Hl Hr. pose proof alpha2. destruct (Nat.eq_dec r 2) as [->|R].
  - rewrite reach_two, one_slot. replace (Nat.min l (1 + 0)) with 1 by lia. rewrite !ceils_S, one_slot.
    rewrite Nat.div_0_l by lia. change (tri 1) with 0. rewrite Nat.mul_0_r. reflexivity.
  - apply pascal_one. lia.
Qed.
(* from stretch to stretch *)
Lemma reach_next : forall l r m, 1 <= l -> 2 <= r -> 1 <= m -> T l r m = T (S l) r m + gap l * N l r m.
Proof.
  intros l r m Hl. revert r m. apply pascal_ind.
  - intros m Hm. rewrite !reach_two. pose proof (room (S l) m) as B. pose proof (room l m) as B'.
    rewrite count_two. destruct (Nat.ltb_spec l (1 + m / alpha)) as [C|C].
    + rewrite (Nat.min_l (S l)) in * by lia. rewrite (Nat.min_l l) in * by lia.
      change (tri (S l)) with (tri l + l) in *. rewrite Nat.mul_add_distr_l in *. lia.
    + rewrite !Nat.min_r by lia. lia.
  - intros r Hr. rewrite !reach_one by lia. unfold count. rewrite pascal_one by auto. lia.
  - intros r m Hr Hm H1 H2. unfold reach, count in *. rewrite !(pascal_step _ _ r m) by auto. rewrite H1, H2. ring.
Qed.
(* what is saved, from stretch to stretch *)
Lemma saved_next : forall l r m, 1 <= l -> 2 <= r -> 1 <= m -> G (S l) r m = G l r m + N l r m.
Proof.
  intros l r m Hl. revert r m. apply pascal_ind.
  - intros m Hm. rewrite !saved_two. rewrite count_two. destruct (Nat.ltb_spec l (1 + m / alpha)); lia.
  - intros r Hr. unfold saved, count. rewrite !pascal_one by auto. lia.
  - intros r m Hr Hm H1 H2. unfold saved, count in *. rewrite !(pascal_step _ _ r m) by auto. lia.
Qed.
(* beyond the last stretch *)
Lemma count_last : forall l r m, 2 <= r -> 1 <= m -> 1 + m / alpha <= l -> N l r m = 0.
Proof.
  pose proof alpha2. intros l. apply (pascal_ind (fun r m => 1 + m / alpha <= l -> N l r m = 0)).
  - intros m Hm C. rewrite count_two. destruct (Nat.ltb_spec l (1 + m / alpha)); lia.
  - intros r Hr _. unfold count. now rewrite pascal_one.
  - intros r m Hr Hm H1 H2 C. pose proof (Nat.div_le_mono (m - 1) m alpha). unfold count in *.
    rewrite pascal_step, H1, H2 by lia. auto.
Qed.
(* the last stretch ends where the line of slope r is left *)
Lemma reach_last : forall l r m, 2 <= r -> 1 <= m -> 1 + m / alpha <= l -> T l r m = top r m.
Proof.
  pose proof alpha2. intros l. apply (pascal_ind (fun r m => 1 + m / alpha <= l -> T l r m = top r m)).
  - intros m Hm C. rewrite reach_two, top_two. now replace (Nat.min l (1 + m / alpha)) with (1 + m / alpha) by lia.
  - intros r Hr C. rewrite one_slot in C. rewrite reach_one, top_one by lia. auto.
  - intros r m Hr Hm H1 H2 C. pose proof (Nat.div_le_mono (m - 1) m alpha). unfold reach in *.
    rewrite pascal_step, top_step, H1, H2 by lia. auto.
Qed.
(* and saves what the line saves *)
Lemma saved_last : forall l r m, 2 <= r -> 1 <= m -> 1 + m / alpha <= l -> G l r m = F r m.
Proof.
  pose proof alpha2. intros l. apply (pascal_ind (fun r m => 1 + m / alpha <= l -> G l r m = F r m)).
  - intros m Hm C. rewrite saved_two, F_two. lia.
  - intros r Hr C. unfold saved. rewrite pascal_one, F_one_slot by lia. auto.
  - intros r m Hr Hm H1 H2 C. pose proof (Nat.div_le_mono (m - 1) m alpha). unfold saved in *.
    rewrite pascal_step, F_step, H1, H2 by lia. auto.
Qed.
(* the first stretch ends where the next slope begins *)
Lemma reach_first : forall r m, 2 <= r -> 1 <= m -> T 1 r m = lo (S r) m.
Proof.
  pose proof alpha2. apply (pascal_ind (fun r m => T 1 r m = lo (S r) m)).
  - intros m Hm. rewrite reach_two. replace (Nat.min 1 (1 + m / alpha)) with 1 by lia. simpl tri.
    rewrite Nat.mul_0_r, Nat.sub_0_r. induction m; [lia|]. destruct (Nat.eq_dec m 0) as [->|M].
    + rewrite lo_one, !ceils_S, one_slot by lia. rewrite Nat.div_0_l by lia. reflexivity.
    + rewrite ceils_S, IHm, (lo_step 3 (S m)) by lia. replace (S m - 1) with m by lia.
      change (lo (3 - 1) (S m)) with (1 + S m / alpha). lia.
  - intros r Hr. rewrite reach_one, lo_one by lia. lia.
  - intros r m Hr Hm H1 H2. unfold reach in *. rewrite pascal_step, (lo_step (S r)), H1, H2 by lia.
    replace (S r - 1) with r by lia. replace (S (r - 1)) with r by lia. auto.
Qed.
(* a later stretch ends earlier *)
Lemma reach_le : forall l r m, 1 <= l -> 2 <= r -> 1 <= m -> T (S l) r m <= T l r m.
Proof. intros. rewrite (reach_next l) by auto. apply Nat.le_add_r. Qed.
(* no stretch of slope r ends before the line of slope r is left *)
Lemma reach_top : forall l r m, 1 <= l -> 2 <= r -> 1 <= m -> top r m <= T l r m.
Proof.
  intros l r m Hl Hr Hm. destruct (le_lt_dec (1 + m / alpha) l) as [C|C]. { rewrite reach_last; auto. }
  remember (1 + m / alpha - l) as d. revert l Hl C Heqd. induction d; intros l Hl C E; [lia|].
  apply Nat.le_trans with (T (S l) r m); [|apply reach_le; auto].
  destruct (le_lt_dec (1 + m / alpha) (S l)) as [D|D]. { rewrite reach_last; auto. } apply IHd; lia.
Qed.

(* The lines: (alpha-1) l P >= ((alpha-1) l r + 1) t - (alpha-1) l G - T, for every l and r *)
Lemma weight_is : forall l m, 1 <= l -> 1 <= m -> gap l * G l 2 m + T l 2 m = weight l m.
Proof.
  intros l m Hl Hm. rewrite saved_two, reach_two. unfold weight. pose proof (room l m) as B.
  assert (E : (alpha - 1) * stairs l (1 + m / alpha) + (alpha - 1) * tri (Nat.min l (1 + m / alpha)) = gap l *
    Nat.min l (1 + m / alpha)).
  { rewrite <- Nat.mul_add_distr_l, <- Nat.mul_assoc. f_equal. destruct (le_lt_dec l (1 + m / alpha)) as [C|C].
    - rewrite stairs_top by auto. rewrite Nat.min_l by auto. pose proof (tri_twice l). simpl tri in *. lia.
    - rewrite Nat.min_r by lia. remember (1 + m / alpha) as e. clear -C. induction e. simpl; lia.
      specialize (IHe ltac:(lia)). cbn [stairs tri]. lia. }
  lia.
Qed.
(* more slots, more *)
Lemma heavier : forall l r m n, 1 <= l -> 2 <= r -> 1 <= m <= n ->
  gap l * G l r m + T l r m <= gap l * G l r n + T l r n.
Proof.
  intros l r m n Hl Hr [Hm H]. induction H as [|n H IH]; auto. apply (Nat.le_trans _ _ _ IH). clear IH.
  destruct (Nat.eq_dec r 2) as [->|R].
  - rewrite !weight_is by lia. pose proof (weight_S l n). lia.
  - unfold saved, reach. rewrite !(pascal_step _ _ r (S n)) by lia. replace (S n - 1) with n by lia.
    rewrite Nat.mul_add_distr_l. apply Nat.add_le_mono; rewrite Nat.add_comm; apply Nat.le_add_r.
Qed.
(* what a release gains is no more than a slope *)
Lemma heavy : forall l r m, 1 <= l -> 2 <= r -> alpha <= m -> gap l * r + 1 <= gap l * G l r m + T l r m.
Proof.
  pose proof alpha2. intros l r m Hl Hr Hm. destruct (Nat.eq_dec r 2) as [->|R].
  - rewrite weight_is by lia. pose proof (weight_release l m Hm). pose proof (weight_0 l).
    pose proof (weight_mono l 0 (m - alpha)). lia.
  - pose proof (heavier l r 1 m Hl Hr ltac:(lia)) as B. rewrite reach_one in B by lia. unfold saved in B at 1.
    rewrite pascal_one in B by lia. pose proof (tri_big r ltac:(lia)) as D. pose proof (Nat.mul_le_mono_l _ _ (gap l)
      D).
    lia.
Qed.
(* in one slot: a product of two neighbours *)
Lemma line_one_slot : forall r k t, 1 <= k -> (k * r + 1) * t <= k * tri (S t) + k * tri r + r.
Proof.
  intros r k t Hk. destruct (le_lt_dec t r) as [C|C].
  - pose proof (Nat.mul_le_mono_l _ _ k (tri_line r t)). lia.
  - pose proof (Nat.mul_le_mono_l _ _ k (tri_line (S r) t)) as B. cbn [tri] in B.
    change (tri (S t)) with (tri t + t). remember (k - 1) as j. assert (k = S j) as -> by lia.
    pose proof (Nat.mul_le_mono_l r t j ltac:(lia)). simpl tri in *. lia.
Qed.
(* P and R lie above all of them *)
Lemma line_any : forall l r b t m, 1 <= l -> 2 <= r -> 1 <= m ->
  (gap l * r + 1) * t <= gap l * W b t m + gap l * G l r m + T l r m.
Proof.
  pose proof alpha2 as A. intros l r b t m Hl Hr. revert b t m. induction r as [r IHr] using lt_wf_ind. intros b t m
    Hm.
  assert (K1 : 1 <= gap l) by nia.
  destruct (Nat.eq_dec r 2) as [->|R].
  { pose proof (line_between l _ b t m Hl (le_n _) Hm) as B. pose proof (weight_S l (m - 1)) as S1.
    replace (S (m - 1)) with m in S1 by lia. pose proof (Nat.div_le_mono (m - 1) m alpha).
    pose proof (weight_is l m Hl Hm). replace (gap l * 2 + 1) with (2 * gap l + 1) by ring. destruct b; lia. }
  assert (R3 : 3 <= r) by lia. assert (I : forall b t m, 1 <= m ->
    (gap l * (r - 1) + 1) * t <= gap l * W b t m + gap l * G l (r - 1) m + T l (r - 1) m) by (intros; apply IHr; lia).
  clear IHr. remember (t + m) as n eqn:E. assert (Hn : t + m <= n) by lia. clear E. revert b t m Hm Hn.
  assert (O : gap l * G l r 1 + T l r 1 = gap l * tri r + r).
  { rewrite reach_one by lia. unfold saved. rewrite pascal_one by lia. auto. }
  pose proof (tri_big r R3) as TB. pose proof (Nat.mul_le_mono_l _ _ (gap l) TB) as TK.
  induction n; intros b t m Hm Hn; [lia|]. pose proof (heavier l r 1 m Hl Hr ltac:(lia)) as H1.
  destruct (Nat.eq_dec t 0) as [->|T0]. { lia. }
  destruct (Nat.eq_dec t 1) as [->|T1]. { rewrite W_1. lia. }
  destruct (Nat.eq_dec m 1) as [->|NM]. { rewrite W_tri, V_tri_row. pose proof (line_one_slot r (gap l) t K1). lia. }
  assert (ST : gap l * G l r m + T l r m = gap l * G l (r - 1) m + T l (r - 1) m + (gap l * G l r (m - 1) + T l r (m
    - 1))).
  { unfold saved, reach. rewrite !(pascal_step _ _ r m) by lia. lia. }
  destruct (W_in b t m) as [(y & Y & ->)|[(-> & ->)|(-> & B & ->)]]; try lia.
  - pose proof (I b y m Hm). pose proof (IHn false (t - y) (m - 1) ltac:(lia) ltac:(lia)) as Q.
    remember (t - y) as z. assert (t = y + z) as -> by lia. remember (r - 1) as p. assert (r = S p) as HR by lia.
    rewrite HR in *. replace (gap l * S p) with (gap l * p + gap l) in * by lia. lia.
  - pose proof (IHn false t (m - 1) ltac:(lia) ltac:(lia)). lia.
  - pose proof (IHn true (t - 1) (m + 1 - alpha) ltac:(lia) ltac:(lia)) as Q.
    pose proof (heavier l r (m + 1 - alpha) (m - 1) Hl Hr ltac:(lia)).
    pose proof (heavy l (r - 1) m Hl ltac:(lia) B) as HV.
    remember (t - 1) as z. assert (t = S z) as -> by lia. remember (r - 1) as p. assert (r = S p) as HR by lia.
    rewrite HR in *. replace (gap l * S p) with (gap l * p + gap l) in * by lia. lia.
Qed.
(* so the cost is at least this *)
Lemma solved_least : forall l r t m, 1 <= l -> 2 <= r -> 1 <= m -> t <= T l r m ->
  r * t <= V false t m + G l r m + (T l r m - t) / gap l.
Proof.
  pose proof alpha2 as A. intros l r t m Hl Hr Hm Ht. pose proof (line_any l r false t m Hl Hr Hm) as B.
  rewrite two_branches in B by auto. assert (K1 : 1 <= gap l) by nia.
  destruct (le_lt_dec (r * t) (V false t m + G l r m)) as [C|C]; [lia|].
  assert (r * t - (V false t m + G l r m) <= (T l r m - t) / gap l); [|lia].
  apply Nat.div_le_lower_bound; [lia|]. remember (r * t - (V false t m + G l r m)) as d.
  assert (r * t = V false t m + G l r m + d) as E by lia.
  replace ((gap l * r + 1) * t) with (gap l * (r * t) + t) in B by ring. rewrite E in B. lia.
Qed.
End Stretches.
