(* P by two branches only: the least over the hidden cuts and the release; R: over the hidden cuts and P with one slot
   less. They are the product's four branches of P and the three of R. *)
From Membptt Require Export Laws Policies Bellman.
From Membptt Require Follow Reached.
Notation W := (two alpha).

Section TwoBranches.
Context {size : Size}.
Notation SEP := (SEPARATE alpha).

(* Fuel does not matter; the equation without it. *)
Lemma two_fuel : forall n n' keep t m, 1 <= m -> t + m <= n -> t + m <= n' ->
  two_ alpha n keep t m = two_ alpha n' keep t m.
Proof.
  pose proof alpha2. induction n; intros n' keep t m Hm H1 H2; [lia|]. destruct n' as [|n']; [lia|].
  cbn [two_]. destruct (Nat.eqb_spec t 0), (Nat.eqb_spec t 1), (Nat.eqb_spec m 1); auto.
  assert (C : forall y, 1 <= y < t -> y + two_ alpha n keep y m + two_ alpha n false (t - y) (m - 1) = y + two_ alpha
    n' keep y m + two_ alpha n' false (t - y) (m - 1)).
  { intros y Y. rewrite (IHn n' keep), (IHn n' false) by lia. auto. }
  f_equal.
  - destruct keep. apply IHn; lia. destruct (Nat.leb_spec alpha m). rewrite (IHn n') by lia. auto. apply C. lia.
  - apply map_ext_in. intros y Y. apply in_seq in Y. apply C. lia.
Qed.
(* from two steps and two slots on *)
Lemma W_eq : forall keep t m, 2 <= t -> 2 <= m -> W keep t m =
  least_of (if keep then W false t (m - 1) else if alpha <=? m then 1 + W true (t - 1) (m + 1 - alpha) else 1 + W keep
    1 m + W false (t - 1) (m - 1))
    (map (fun y => y + W keep y m + W false (t - y) (m - 1)) (seq 1 (t - 1))).
Proof.
  pose proof alpha2. intros keep t m Ht Hm. unfold two at 1. destruct (t + m) as [|n] eqn:E; [lia|].
  cbn [two_]. destruct (Nat.eqb_spec t 0), (Nat.eqb_spec t 1), (Nat.eqb_spec m 1); try lia.
  assert (C : forall y, 1 <= y < t -> y + two_ alpha n keep y m + two_ alpha n false (t - y) (m - 1) = y + W keep y m +
    W false (t - y) (m - 1)).
  { intros y Y. unfold two. rewrite (two_fuel n (y + m)), (two_fuel n (t - y + (m - 1))) by lia. auto. }
  f_equal.
  - destruct keep. apply two_fuel; lia. destruct (Nat.leb_spec alpha m). unfold two.
    rewrite (two_fuel n (t - 1 + (m + 1 - alpha))) by lia. auto. apply C. lia.
  - apply map_ext_in. intros y Y. apply in_seq in Y. apply C. lia.
Qed.
(* The Bellman inequalities for the two branches. *)
Lemma W_none : forall b m, W b 0 m = 0. Proof. intros b [|m]; reflexivity. Qed.
(* one step *)
Lemma W_1 : forall b m, W b 1 m = 1. Proof. reflexivity. Qed.
(* one step, as the bound needs it *)
Lemma W_one : forall b m, 1 <= m -> W b 1 m <= 1. Proof. auto. Qed.
(* one slot, the same *)
Lemma W_tri : forall b t, W b t 1 = V b t 1.
Proof. intros b t. unfold two. rewrite V_tri. destruct t as [|[|t]]; reflexivity. Qed.
(* one slot, step by step *)
Lemma W_last : forall b t, W b (S t) 1 <= S t + W b t 1.
Proof. intros. rewrite !W_tri. apply V_last. Qed.
(* no more than a hidden cut *)
Lemma W_hidden : forall b t y m, 2 <= m -> 1 <= y < t -> W b t m <= y + W b y m + W false (t - y) (m - 1).
Proof. intros. rewrite W_eq by lia. apply least_of_le. right. apply in_map_iff. exists y. split; auto. apply in_seq.
lia. Qed.
(* for P, than giving up the start *)
Lemma W_release : forall t m, alpha <= m -> 1 <= t -> W false t m <= 1 + W true (t - 1) (m + 1 - alpha).
Proof.
  pose proof alpha2. intros. destruct (Nat.eq_dec t 1) as [->|N]. rewrite W_1. lia.
  rewrite W_eq by lia. apply least_of_le. left. apply Nat.leb_le in H0. rewrite H0. auto.
Qed.
(* for R, than P with a slot less *)
Lemma W_held : forall t m, 2 <= m -> W true t m <= W false t (m - 1).
Proof.
  intros. destruct t as [|[|t]]; [rewrite !W_none; auto | rewrite !W_1; auto|].
  rewrite (W_eq true) by lia. apply least_of_le. left. auto.
Qed.
(* every value is a branch *)
Lemma W_in : forall b t m, 2 <= t -> 2 <= m ->
  (exists y, 1 <= y < t /\ W b t m = y + W b y m + W false (t - y) (m - 1)) \/
  (b = true /\ W b t m = W false t (m - 1)) \/ (b = false /\ alpha <= m /\
    W b t m = 1 + W true (t - 1) (m + 1 - alpha)).
Proof.
  intros b t m Ht Hm. pose proof (W_eq b t m Ht Hm) as E. match type of E with _ = least_of ?d ?l => destruct
    (least_of_in l d) as [L|L] end; rewrite <- E in L.
  - destruct b; auto. destruct (Nat.leb_spec alpha m); auto. left. exists 1. split; auto.
  - apply in_map_iff in L. destruct L as (y & L & Y). apply in_seq in Y. left. exists y. split; auto. lia.
Qed.
(* one more slot does not hurt *)
Lemma W_mono : forall m, 2 <= m -> forall t b, W b t m <= W b t (m - 1).
Proof.
  pose proof alpha2. induction m as [m IHm] using lt_wf_ind. intros Hm. induction t as [t IHt] using lt_wf_ind.
  destruct (le_lt_dec t 1) as [T|T]. { intro b. destruct t as [|[|t]]; [rewrite !W_none | rewrite !W_1 |]; lia. }
  assert (P : W false t m <= W false t (m - 1)).
  { destruct (Nat.eq_dec m 2) as [->|N].
    - pose proof (W_hidden false t 1 2). rewrite W_1 in H0. simpl Nat.sub in *. rewrite !W_tri in *.
      destruct t as [|t]; [lia|].
      rewrite V_last_one. replace (S t - 1) with t in H0 by lia. lia.
    - destruct (W_in false t (m - 1)) as [(y & Y & ->)|[(E & _)|(_ & A & ->)]]; try lia; try discriminate.
      + pose proof (W_hidden false t y m). pose proof (IHt y ltac:(lia) false).
        pose proof (IHm (m - 1) ltac:(lia) ltac:(lia) (t - y) false). lia.
      + pose proof (W_release t m). destruct (Nat.eq_dec (m + 1 - alpha) 1) as [Q|Q]. lia.
        pose proof (IHm (m + 1 - alpha) ltac:(lia) ltac:(lia) (t - 1) true).
        replace (m + 1 - alpha - 1) with (m - 1 + 1 - alpha) in H1 by lia. lia. }
  intros [|]; auto. destruct (Nat.eq_dec m 2) as [->|N].
  - pose proof (W_held t 2). simpl Nat.sub in *. rewrite !W_tri in *. rewrite !V_tri in *. lia.
  - destruct (W_in true t (m - 1)) as [(y & Y & ->)|[(_ & ->)|(E & _)]]; try lia; try discriminate.
    + pose proof (W_hidden true t y m). pose proof (IHt y ltac:(lia) true).
      pose proof (IHm (m - 1) ltac:(lia) ltac:(lia) (t - y) false). lia.
    + pose proof (W_held t m). pose proof (IHm (m - 1) ltac:(lia) ltac:(lia) t false). lia.
Qed.
(* neither is more than P with a slot less *)
Lemma W_less : forall b t m, 2 <= m -> W b t m <= W false t (m - 1).
Proof. intros [|] t m H. apply W_held; auto. apply W_mono; auto. Qed.

(* Every branch of the two is one of the product's, or no less than one. *)
Lemma V_le_W : forall n t m b, 1 <= m -> t + m <= n -> V b t m <= W b t m.
Proof.
  pose proof alpha2. induction n; intros t m b Hm Hn; [lia|].
  destruct (le_lt_dec t 1) as [T|T]. { destruct t as [|[|t]];
    [rewrite V_none, W_none; auto | rewrite V_1, W_1; auto | lia]. }
  destruct (Nat.eq_dec m 1) as [->|N]. { rewrite W_tri. auto. }
  destruct (W_in b t m) as [(y & Y & ->)|[(-> & ->)|(-> & A & ->)]]; try lia.
  - pose proof (V_hidden b t y m). pose proof (IHn y m b). pose proof (IHn (t - y) (m - 1) false). lia.
  - pose proof (V_less true t m). pose proof (IHn t (m - 1) false). lia.
  - pose proof (V_release t m). pose proof (IHn (t - 1) (m + 1 - alpha) true). lia.
Qed.
(* The simple form is the product's, for P and for R: it bounds every schedule, and one has the product's cost. *)
Theorem two_branches : forall keep t m, 1 <= m -> W keep t m = V keep t m.
Proof.
  intros keep t m Hm. apply Nat.le_antisymm; [|apply V_le_W with (t + m); auto].
  pose proof (Follow.any_lower_bound W W_none W_one W_last W_hidden W_less W_release keep t m) as B. destruct keep.
  - destruct (Reached.separate_kept_reached t m Hm) as (l & P & N & <- & _). apply B; auto.
  - destruct (Reached.separate_reached t m Hm) as (l & P & <- & _). apply B; auto using complete_legal. discriminate.
Qed.

(* P bounds every legal schedule, and one costs it *)
Lemma P_lower : forall t m l, 1 <= m -> legal SEP m t l = true -> V false t m <= cost l.
Proof. intros. apply (Follow.separate_lower_bound false); auto. discriminate. Qed.
(* the latter *)
Lemma P_reached : forall t m, 1 <= m -> exists l, legal SEP m t l = true /\ cost l = V false t m.
Proof. intros t m Hm. destruct (Reached.separate_reached t m Hm) as (l & P & E & _). exists l.
split; auto using complete_legal. Qed.
End TwoBranches.
