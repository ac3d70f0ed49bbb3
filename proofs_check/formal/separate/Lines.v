(* The least cost lies above lines in t, one for each slope r: V false t m >= r t - F r m. *)
From Membptt Require Import TwoBranches.
Arguments Nat.div : simpl never.
Arguments Nat.mul : simpl nomatch.

(* e in one slot, then g m more: e + g 2 + .. + g m *)
Fixpoint row (e : nat) (g : nat -> nat) (m : nat) : nat :=
  match m with 0 => e | S n => match n with 0 => e | S _ => row e g n + g m end end.
(* in one slot *)
Lemma row_1 : forall e g, row e g 1 = e. Proof. reflexivity. Qed.
(* slot by slot *)
Lemma row_S : forall e g m, 2 <= m -> row e g m = row e g (m - 1) + g m.
Proof. intros e g [|[|m]] H; try lia. simpl row at 1. now replace (S (S m) - 1) with (S m) by lia. Qed.
(* r (r - 1) / 2 *)
Fixpoint tri (r : nat) : nat := match r with 0 => 0 | S k => tri k + k end.
(* twice r (r + 1) / 2 *)
Lemma tri_twice : forall r, 2 * tri (S r) = r * S r.
Proof. induction r; simpl tri in *; lia. Qed.
(* r t lies below r (r - 1) / 2 + t (t + 1) / 2 *)
Lemma tri_line : forall r t, r * t <= tri r + tri (S t).
Proof. induction r; intros [|t]; try (simpl; lia). specialize (IHr t). cbn [tri] in *. lia. Qed.
(* r (r - 1) / 2 is at least r from r = 3 on *)
Lemma tri_big : forall r, 3 <= r -> r <= tri r.
Proof. intros r H. induction H; simpl in *; lia. Qed.

(* F r m: 2: 1 + floor(m / alpha); then r (r-1) / 2 in one slot and F r m = F (r-1) m + F r (m-1) *)
Fixpoint limit (alpha r : nat) : nat -> nat :=
  match r with
  | 0 => fun _ => 0
  | S k => match k with 0 => fun _ => 0 | S j => match j with 0 => fun m => 1 + m / alpha
    | S _ => row (tri r) (limit alpha k) end end
  end.
Notation F := (limit alpha).

Section Lines.
Context {size : Size}.

(* r = 2 *)
Lemma F_two : forall m, F 2 m = 1 + m / alpha. Proof. reflexivity. Qed.
(* r >= 3 *)
Lemma F_row : forall r m, 3 <= r -> F r m = row (tri r) (F (r - 1)) m.
Proof. intros [|[|[|r]]] m H; try lia. reflexivity. Qed.
(* one slot *)
Lemma F_one_slot : forall r, F r 1 = tri r.
Proof. pose proof alpha2. intros [|[|[|r]]]; try reflexivity. rewrite F_two, Nat.div_small by lia. reflexivity. Qed.
(* Pascal's rule *)
Lemma F_step : forall r m, 3 <= r -> 2 <= m -> F r m = F (r - 1) m + F r (m - 1).
Proof. intros. rewrite (F_row r m), (F_row r (m - 1)), row_S by lia. lia. Qed.
(* one more slot *)
Lemma F_le : forall r m, 1 <= m -> F r m <= F r (S m).
Proof.
  pose proof alpha2. intros [|[|[|r]]] m Hm; try (simpl; lia).
  - rewrite !F_two. pose proof (Nat.div_le_mono m (S m) alpha). lia.
  - rewrite (F_step _ (S m)) by lia. replace (S m - 1) with m by lia. lia.
Qed.
(* it grows with m *)
Lemma F_mono : forall r m n, 1 <= m <= n -> F r m <= F r n.
Proof. intros r m n [H1 H]. induction H; auto. pose proof (F_le r m0). lia. Qed.

(* one slot: t (t + 1) / 2 *)
Lemma V_tri_row : forall b t, V b t 1 = tri (S t).
Proof. intros b t. induction t. reflexivity. rewrite V_last_one, IHt. simpl. lia. Qed.

(* slope 1 *)
Lemma line_1 : forall b t m, 1 <= m -> t <= W b t m.
Proof. intros. pose proof (V_ge t b m H). pose proof (V_le_W (t + m) t m b H). lia. Qed.
(* slope 2; R as P with one slot less *)
Lemma line_2 : forall n b t m, t + m <= n -> 1 <= m ->
  2 * t <= W b t m + 1 + (if b then (m - 1) / alpha else m / alpha).
Proof.
  pose proof alpha2 as A. induction n; intros b t m Hn Hm; [lia|].
  destruct (le_lt_dec t 1) as [T|T]. { destruct t as [|[|t]]; [lia | rewrite W_1; lia | lia]. }
  destruct (Nat.eq_dec m 1) as [->|N]. { rewrite W_tri, V_tri_row. pose proof (tri_line 2 t). change (tri 2) with 1 in
    *. lia. }
  destruct (W_in b t m) as [(y & Y & ->)|[(-> & ->)|(-> & B & ->)]]; try lia.
  - pose proof (line_1 b y m Hm). pose proof (IHn false (t - y) (m - 1)).
    pose proof (Nat.div_le_mono (m - 1) m alpha). destruct b; lia.
  - pose proof (IHn false t (m - 1)). simpl in *. lia.
  - pose proof (IHn true (t - 1) (m + 1 - alpha)). replace m with (m - alpha + 1 * alpha) at 2 by lia.
    rewrite Nat.div_add by lia.
    replace (m + 1 - alpha - 1) with (m - alpha) in * by lia. simpl in *. lia.
Qed.
(* every slope *)
Lemma F_pays : forall r m, 3 <= r -> alpha <= m -> r - 1 <= F (r - 1) m.
Proof.
  pose proof alpha2. intros r m Hr Hm. destruct (Nat.eq_dec r 3) as [->|N].
  - simpl Nat.sub. rewrite F_two. pose proof (Nat.div_str_pos m alpha). lia.
  - pose proof (F_mono (r - 1) 1 m). rewrite F_one_slot in *. pose proof (tri_big (r - 1)). lia.
Qed.
(* P and R lie above the line of slope r *)
Lemma line_W : forall r b t m, 1 <= r -> 1 <= m -> r * t <= W b t m + F r m.
Proof.
  pose proof alpha2 as A. intros r b t m Hr. revert b t m. induction r as [r IHr] using lt_wf_ind. intros b t m Hm.
  destruct (Nat.eq_dec r 1) as [->|R1]. { pose proof (line_1 b t m). simpl. lia. }
  destruct (Nat.eq_dec r 2) as [->|R2].
  { pose proof (line_2 _ b t m (le_n _) Hm). pose proof (Nat.div_le_mono (m - 1) m alpha). rewrite F_two. destruct b;
      lia. }
  assert (R3 : 3 <= r) by lia. assert (I : forall b t m, 1 <= m -> (r - 1) * t <= W b t m + F (r - 1) m) by (intros;
    apply IHr; lia).
  clear IHr. remember (t + m) as n eqn:E. assert (Hn : t + m <= n) by lia. clear E. revert b t m Hm Hn.
  induction n; intros b t m Hm Hn; [lia|].
  destruct (Nat.eq_dec t 0) as [->|T0]. { lia. }
  destruct (Nat.eq_dec t 1) as [->|T1]. { rewrite W_1. pose proof (F_mono r 1 m). rewrite F_one_slot in *.
    pose proof (tri_big r). lia. }
  destruct (Nat.eq_dec m 1) as [->|N]. { rewrite W_tri, V_tri_row, F_one_slot. pose proof (tri_line r t). lia. }
  pose proof (F_step r m). destruct (W_in b t m) as [(y & Y & ->)|[(-> & ->)|(-> & B & ->)]]; try lia.
  - pose proof (I b y m Hm). pose proof (IHn false (t - y) (m - 1)).
    assert (r * t = y + (r - 1) * y + r * (t - y)); [|lia]. replace t with (y + (t - y)) at 1 by lia.
    remember (t - y) as z.
    destruct r as [|r]; [lia|]. replace (S r - 1) with r by lia. simpl Nat.mul. rewrite Nat.mul_add_distr_l. lia.
  - pose proof (IHn false t (m - 1)). lia.
  - pose proof (IHn true (t - 1) (m + 1 - alpha)). pose proof (F_mono r (m + 1 - alpha) (m - 1)).
    pose proof (F_pays r m).
    assert (r * t = r * (t - 1) + r); [|lia]. destruct t as [|t]; [lia|]. replace (S t - 1) with t by lia. lia.
Qed.
(* so does the product's P *)
Theorem line : forall r t m, 1 <= r -> 1 <= m -> r * t <= V false t m + F r m.
Proof. intros. rewrite <- two_branches by auto. apply line_W; auto. Qed.
(* so at a forwards a step no more than F (a+1) m steps *)
Corollary longest_most : forall a t m, 1 <= m -> V false t m <= a * t -> t <= F (S a) m.
Proof. intros a t m Hm H. pose proof (line (S a) t m). simpl Nat.mul in *. lia. Qed.
End Lines.
