(* What the recurrence of MSM+ obeys: its equation without fuel, its cuts as upper bounds (the Bellman inequalities),
   and that one more slot does not hurt. *)
From Membptt Require Export Recurrences Size.
Arguments Nat.div : simpl never.

(* V false is P, V true is R *)
Notation V := (separate alpha).

Section Recurrence.
Context {size : Size}.

(* The least of a list is no more than any member, and one of them. *)
Lemma least_of_le : forall l d x, In x (d :: l) -> least_of d l <= x.
Proof. unfold least_of. induction l; simpl; intros d x [->|H]; try tauto; try lia.
  - specialize (IHl x x (or_introl eq_refl)). lia.
  - destruct H as [->|H]. lia. specialize (IHl d x (or_intror H)). lia. Qed.
(* and one of them *)
Lemma least_of_in : forall l d, In (least_of d l) (d :: l).
Proof. unfold least_of. induction l; simpl; intros; auto. destruct (Nat.min_dec a (fold_right Nat.min d l)) as [->|
  ->]; auto.
  destruct (IHl d); auto. Qed.

(* fuel does not matter *)
Lemma val_fuel : forall n n' keep t m, t <= n -> t <= n' -> separate_ alpha n keep t m = separate_ alpha n' keep t m.
Proof.
  induction n; intros n' keep t m H H'.
  - assert (t = 0) by lia. subst. destruct n'; reflexivity.
  - destruct n' as [|n']. { assert (t = 0) by lia. subst. reflexivity. }
    simpl. destruct (Nat.eqb_spec t 0), (Nat.eqb_spec t 1), (m =? 1), (alpha * t <=? m); auto.
    rewrite (IHn n') by lia. f_equal. f_equal; [|f_equal].
    + apply map_ext_in. intros y Y. apply in_seq in Y. rewrite (IHn n' false), (IHn n' keep y) by lia. auto.
    + apply map_ext_in. intros y Y. assert (1 <= y <= t).
      { destruct (alpha <? m). apply in_seq in Y; lia. destruct (alpha =? m); simpl in Y; [lia | tauto]. }
      rewrite (IHn n' true), (IHn n' keep (y - 1)) by lia. auto.
    + destruct (negb keep && (alpha <=? m)); auto. rewrite (IHn n' true) by lia. auto.
Qed.

(* the equation without fuel *)
Definition cuts (keep : bool) (t m : nat) :=
  map (fun y => y + V false (t - y) (m - 1) + V keep y m) (seq 1 (t - 1)) ++
  map (fun y => y + V true (t - y) (m - alpha) + V keep (y - 1) m) (if alpha <? m then seq 1 t else if alpha =? m then
    [t] else []) ++
  (if negb keep && (alpha <=? m) then [1 + V true (t - 1) (m - (alpha - 1))] else []).
(* from two steps and two slots on *)
Lemma V_eq : forall keep t m, 2 <= t -> m <> 1 ->
  V keep t m = if alpha * t <=? m then t else least_of (t + V keep (t - 1) m) (cuts keep t m).
Proof.
  intros keep t m Ht Hm. unfold separate at 1. destruct t as [|n]; [lia|]. cbn [separate_].
  destruct (Nat.eqb_spec (S n) 0), (Nat.eqb_spec (S n) 1), (Nat.eqb_spec m 1); try lia.
  destruct (alpha * S n <=? m); auto. unfold cuts, separate. rewrite (val_fuel n (S n - 1)) by lia. f_equal.
  f_equal; [|f_equal].
  - apply map_ext_in. intros y Y. apply in_seq in Y. rewrite (val_fuel n (S n - y) false), (val_fuel n y keep) by lia.
    auto.
  - apply map_ext_in. intros y Y. assert (1 <= y <= S n).
    { destruct (alpha <? m). apply in_seq in Y; lia. destruct (alpha =? m); simpl in Y; [lia | tauto]. }
    rewrite (val_fuel n (S n - y) true), (val_fuel n (y - 1) keep) by lia. auto.
  - destruct (negb keep && (alpha <=? m)); auto. rewrite (val_fuel n (S n - 1) true) by lia. auto.
Qed.
(* The boundary: no steps, one step, one slot. *)
Lemma V_none : forall b m, V b 0 m = 0. Proof. reflexivity. Qed.
(* one step *)
Lemma V_1 : forall b m, V b 1 m = 1. Proof. reflexivity. Qed.
(* one step, as the bound needs it *)
Lemma V_one : forall b m, 1 <= m -> V b 1 m <= 1. Proof. intros. rewrite V_1. auto. Qed.
(* one slot *)
Lemma V_tri : forall b t, V b t 1 = t * (t + 1) / 2.
Proof. intros b t. unfold separate. destruct t as [|[|t]]; reflexivity. Qed.
(* one slot, step by step *)
Lemma V_last_one : forall b t, V b (S t) 1 = S t + V b t 1.
Proof.
  intros. rewrite !V_tri. replace (S t * (S t + 1)) with (t * (t + 1) + S t * 2) by ring. rewrite Nat.div_add by lia.
  lia.
Qed.
(* the same as an inequality *)
Lemma V_last : forall b t, V b (S t) 1 <= S t + V b t 1.
Proof. intros. rewrite V_last_one. auto. Qed.

(* what a cut is *)
Lemma cuts_in : forall keep t m x, 2 <= t -> (In x (cuts keep t m) <->
  (exists y, 1 <= y < t /\ x = y + V false (t - y) (m - 1) + V keep y m) \/
  (exists y, 1 <= y <= t /\ alpha <= m /\ (y = t \/ alpha < m) /\
    x = y + V true (t - y) (m - alpha) + V keep (y - 1) m) \/
  (keep = false /\ alpha <= m /\ x = 1 + V true (t - 1) (m - (alpha - 1)))).
Proof.
  intros keep t m x Ht. unfold cuts. rewrite !in_app_iff, !in_map_iff. split.
  - intros [(y & <- & Y)|[(y & <- & Y)|H]].
    + left. exists y. apply in_seq in Y. split; auto. lia.
    + right. left. exists y. destruct (Nat.ltb_spec alpha m). apply in_seq in Y. repeat split; auto; lia.
      destruct (Nat.eqb_spec alpha m); simpl in Y; [destruct Y as [<-|[]]; repeat split; auto; lia | tauto].
    + right. right. destruct keep; simpl in H; [tauto|]. destruct (Nat.leb_spec alpha m); simpl in H; [|tauto].
      destruct H as [<-|[]]. auto.
  - intros [(y & Y & ->)|[(y & Y & A & B & ->)|(-> & A & ->)]].
    + left. exists y. split; auto. apply in_seq. lia.
    + right. left. exists y. split; auto. destruct (Nat.ltb_spec alpha m). apply in_seq; lia.
      destruct (Nat.eqb_spec alpha m); simpl; lia.
    + right. right. simpl. destruct (Nat.leb_spec alpha m); simpl; auto. lia.
Qed.

(* no fewer forwards than steps *)
Lemma V_ge : forall t b m, 1 <= m -> t <= V b t m.
Proof.
  induction t as [t IH] using lt_wf_ind. intros b m Hm. pose proof alpha2.
  destruct t as [|[|t]]; [lia | rewrite V_1; lia|]. destruct (Nat.eq_dec m 1) as [->|N].
  { rewrite V_last_one. lia. }
  rewrite V_eq by lia. destruct (alpha * S (S t) <=? m); auto.
  destruct (least_of_in (cuts b (S (S t)) m) (S (S t) + V b (S (S t) - 1) m)) as [<-|H0]; [lia|].
  apply cuts_in in H0; [|lia]. destruct H0 as [(y & Y & ->)|[(y & Y & A & B & ->)|(-> & A & ->)]].
  - pose proof (IH (S (S t) - y) ltac:(lia) false (m - 1)). lia.
  - destruct B as [->|B]; [lia|]. pose proof (IH (S (S t) - y) ltac:(lia) true (m - alpha)). lia.
  - pose proof (IH (S (S t) - 1) ltac:(lia) true (m - (alpha - 1))). lia.
Qed.
(* no more than any cut *)
Lemma V_cut : forall b t m x, 2 <= t -> 2 <= m -> (t <= x) -> (x = t + V b (t - 1) m \/ In x (cuts b t m)) ->
  V b t m <= x.
Proof. intros. rewrite V_eq by lia. destruct (alpha * t <=? m); auto. apply least_of_le. simpl. destruct H2; auto. Qed.
(* no more than LAST *)
Lemma V_Last : forall b t m, 2 <= t -> 2 <= m -> V b t m <= t + V b (t - 1) m.
Proof. intros. apply V_cut; auto. lia. Qed.
(* than a hidden cut *)
Lemma V_hidden : forall b t y m, 2 <= m -> 1 <= y < t -> V b t m <= y + V b y m + V false (t - y) (m - 1).
Proof.
  intros. apply V_cut; try lia. { pose proof (V_ge (t - y) false (m - 1)). lia. }
  right. apply cuts_in; [lia|]. left. exists y. split; auto. lia.
Qed.
(* than an internal cut *)
Lemma V_internal : forall b t y m, 1 <= y <= t -> 2 <= t -> alpha < m ->
  V b t m <= y + V true (t - y) (m - alpha) + V b (y - 1) m.
Proof.
  intros. pose proof alpha2. apply V_cut; try lia. { pose proof (V_ge (t - y) true (m - alpha)). lia. }
  right. apply cuts_in; [lia|]. right. left. exists y. repeat split; auto; lia.
Qed.
(* and, for P, than giving up the start *)
Lemma V_release : forall t m, alpha <= m -> 1 <= t -> V false t m <= 1 + V true (t - 1) (m + 1 - alpha).
Proof.
  intros. pose proof alpha2. destruct (Nat.eq_dec t 1) as [->|N]. { rewrite V_1. lia. }
  replace (m + 1 - alpha) with (m - (alpha - 1)) by lia.
  apply V_cut; try lia. { pose proof (V_ge (t - 1) true (m - (alpha - 1))). lia. }
  right. apply cuts_in; [lia|]. right. right. auto.
Qed.

(* One more slot does not hurt; and a held start with one more slot is no worse than a start of one's own: R(t, m+1) <=
   P(t, m), which makes every cut of P but the hidden ones and the release needless in the proof. *)
Lemma V_mono : forall t m, 1 <= m -> (forall b, V b t (S m) <= V false t m) /\ V true t (S m) <= V true t m.
Proof.
  induction t as [t IH] using lt_wf_ind. intros m Hm. pose proof alpha2.
  destruct (le_lt_dec t 1) as [T|T]. { destruct t as [|[|t]]; [| |lia]; split; intros; unfold separate; simpl; auto. }
  assert (IHf : forall t' m' b, t' < t -> 1 <= m' -> V b t' (S m') <= V false t' m') by (intros t' m' b A B;
    apply (IH t' A m' B)).
  assert (IHt : forall t' m', t' < t -> 1 <= m' -> V true t' (S m') <= V true t' m') by (intros t' m' A B;
    apply (IH t' A m' B)).
  destruct (Nat.eq_dec m 1) as [->|N].
  - assert (forall b c, V b t 2 <= V c t 1).
    { intros. destruct t as [|t]; [lia|]. rewrite V_last_one. pose proof (V_Last b (S t) 2).
        replace (S t - 1) with t in H0 by lia.
      assert (V b t 2 <= V c t 1); [|lia]. destruct b, c; try apply IHf; try apply IHt; try lia.
      assert (V true t 1 = V false t 1) by (rewrite !V_tri; auto). specialize (IHf t 1 false). lia. }
    auto.
  - assert (forall b c, (forall t', t' < t -> V b t' (S m) <= V c t' m) -> (b = false -> c = false) ->
      V b t (S m) <= V c t m).
    { intros b c I BC. rewrite (V_eq c) by lia. destruct (Nat.leb_spec (alpha * t) m) as [A|A].
      { rewrite V_eq by lia. destruct (Nat.leb_spec (alpha * t) (S m)); lia. }
      destruct (least_of_in (cuts c t m) (t + V c (t - 1) m)) as [<-|H0].
      { pose proof (V_Last b t (S m)). specialize (I (t - 1)). lia. }
      apply cuts_in in H0; [|lia]. destruct H0 as [(y & Y & ->)|[(y & Y & B & D & ->)|(-> & B & ->)]].
      - pose proof (V_hidden b t y (S m)). specialize (I y). specialize (IHf (t - y) (m - 1) false).
        replace (S (m - 1)) with (S m - 1) in IHf by lia. lia.
      - pose proof (V_internal b t y (S m)). specialize (I (y - 1)). destruct D as [->|D].
        + rewrite Nat.sub_diag, V_none in *. lia.
        + destruct (Nat.eq_dec y t) as [->|Q]. rewrite Nat.sub_diag, V_none in *. lia.
          specialize (IHt (t - y) (m - alpha)). replace (S (m - alpha)) with (S m - alpha) in IHt by lia. lia.
      - pose proof (V_internal b t 1 (S m)). replace (S m - alpha) with (m - (alpha - 1)) in H0 by lia.
        replace (1 - 1) with 0 in H0 by lia. rewrite (V_none b) in H0. lia. }
    split; [intro b|]; apply H0; auto.
Qed.
(* The form that the bound uses. *)
Lemma V_less : forall b t m, 2 <= m -> V b t m <= V false t (m - 1).
Proof. intros. destruct m as [|m]; [lia|]. replace (S m - 1) with m by lia. apply V_mono. lia. Qed.
End Recurrence.
