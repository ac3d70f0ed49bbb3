(* The policy of (10) that counts every tensor once: what takes a slot, and what follows where the first step runs once,
   so that its internal state stays to the end. *)
From Membptt Require Import Laws Projection Cut Reach Values.

Section Shared.
Variable alpha : nat.
Hypothesis alpha_2 : 2 <= alpha.
Notation POL := (SHARED alpha).
Notation C := (shared alpha).

(* the policy is fair *)
Lemma SHARED_fair : fair POL.
Proof.
  split; auto. intros h o i h' o' i' H1 H2 H3. simpl.
  destruct h; [rewrite H1 by auto | destruct o; [rewrite H2 by auto | destruct i; [rewrite H3 by auto|]]]; simpl;
    rewrite ?orb_true_r; simpl; try lia; destruct o; try rewrite H2 by auto; simpl; lia.
Qed.

(* its tensors are shared *)
Lemma SHARED_sharing : sharing POL.
Proof. intros _ [] []; simpl; intros; try discriminate; lia. Qed.

(* what takes a slot *)
Lemma heavy_hid : forall s x, hid s x = true -> 1 <= weight POL (hid s) (int s) x.
Proof. intros s x H. unfold weight. simpl. rewrite H. simpl. lia. Qed.
(* the input of a stored internal state takes a slot *)
Lemma heavy_in : forall s p, int s p = true -> 1 <= weight POL (hid s) (int s) p.
Proof. intros s x H. unfold weight. simpl. rewrite H, orb_true_r. lia. Qed.
(* its output and rest take alpha - 1 *)
Lemma heavy_out : forall s p, int s p = true -> alpha - 1 <= weight POL (hid s) (int s) (S p).
Proof. intros s x H. unfold weight. simpl. rewrite H, orb_true_r. simpl. lia. Qed.

(* with h_a there and at most one slot in use below v, nothing else is stored below v, but for the internal state a if
   its output is v *)
Lemma only_start : forall s a v, a < v -> hid s a = true \/ int s a = true -> S a < v \/ int s a = false ->
  sumr (weight POL (hid s) (int s)) 0 v <= 1 ->
  (forall x, x < v -> hid s x = (x =? a)) /\ (forall p, p < v -> int s p = false).
Proof.
  intros s a v Hv Ha Hv' Hs. set (W := weight POL (hid s) (int s)) in *.
  assert (H1 : 1 <= W a) by (destruct Ha; [apply heavy_hid | apply heavy_in]; auto).
  assert (H2 : int s a = false).
  { destruct Hv' as [Hv'|]; auto. destruct (int s a) eqn:E; auto. exfalso. apply heavy_out in E.
    pose proof (sumr_ge2 W 0 a (S a) v ltac:(lia) ltac:(lia) ltac:(lia)). fold W in E. lia. }
  rewrite H2 in Ha. destruct Ha as [Ha|]; [|discriminate]. split.
  - intros x Hx. destruct (Nat.eqb_spec x a) as [->|N]; auto. destruct (hid s x) eqn:E; auto. exfalso.
    apply heavy_hid in E. pose proof (sumr_ge2 W 0 a x v ltac:(lia) ltac:(lia) ltac:(lia)). fold W in E. lia.
  - intros p Hp. destruct (Nat.eq_dec p a) as [->|N]; auto. destruct (int s p) eqn:E; auto. exfalso.
    apply heavy_in in E. pose proof (sumr_ge2 W 0 a p v ltac:(lia) ltac:(lia) ltac:(lia)). fold W in E. lia.
Qed.

(* ---------------------------------------------------------------- a first step that runs once *)

(* taping a step evaluates it once *)
Lemma record_self : forall a, evi a (S a) (Record a) = 1.
Proof. intros. unfold evi, span, fst, snd. lia. Qed.
(* and no other step *)
Lemma record_only : forall a p, 1 <= evi a (S a) (Record p) -> p = a.
Proof. intros a p. unfold evi, span, fst, snd. lia. Qed.

(* step a can only go backward if it is run again *)
Definition Dead a s := int s a = false /\ core s <> Some a /\ a < lft s.
(* so if it is not, it never goes backward *)
Lemma Dead_run : forall l m a hi s, Dead a s -> run POL hi m s l -> ev a (S a) l = 0 -> a < lft (fin s l).
Proof.
  induction l as [|[x s1] l IH]; simpl; intros m a hi s D R E. apply D. destruct R as (T & _ & R).
  apply (IH m a hi s1); auto; [|lia]. assert (E0 : evi a (S a) x = 0) by lia. clear IH E R.
  destruct D as (A & B & D). inversion T; subst; simpl in A, B, D; unfold Dead; simpl; repeat split; auto;
    try congruence.
  - intro Q. inj. rewrite record_self in E0. discriminate.
  - assert (p <> a) by congruence. lia.
  - unfold add. destruct (Nat.eqb_spec a p); auto. subst. congruence.
  - unfold del. cases.
  - unfold del. cases.
Qed.

(* what is stored above S a when internal state a is stored *)
Lemma room_above : forall m a hi s, S a < hi -> int s a = true -> room POL hi s <= m ->
  alpha <= m /\ right_room POL (S a) hi s <= m - (alpha - 1).
Proof.
  intros m a hi s Ha H R. pose proof (right_room_split POL (S a) hi s SHARED_fair Ha) as Q.
  change (weigh POL true false (int s (S a))) with 1 in Q.
  rewrite room_sumr, (sumr_at _ 0 (S a) (S hi)), (sumr_at _ 0 a (S a)) in R by lia.
  pose proof (heavy_in s a H). pose proof (heavy_out s a H). lia.
Qed.

(* after step a was recorded, not to be run again: its internal state is stored or in the core, until it goes
   backward *)
Definition Held a hi M s :=
  right_room POL (S a) hi s <= M /\
  ((int s a = true /\ core s <> Some a) \/ (int s a = false /\ core s = Some a)).
(* so what is stored above has alpha - 1 slots less, to the end *)
Lemma held_run : forall l m a hi s, S a < hi -> Held a hi (m - (alpha - 1)) s -> S a < lft s -> run POL hi m s l ->
  ev a (S a) l = 0 -> lft (fin s l) = a ->
  forall x s1, In (x, s1) l -> S a < lft s1 -> right_room POL (S a) hi s1 <= m - (alpha - 1).
Proof.
  induction l as [|[y s0] l IH]; simpl; intros m a hi s Ha H Hl R E F x s1 I Hs1; [tauto|].
  destruct R as (T & Cs & R).
  destruct (le_lt_dec (lft s0) (S a)) as [L0|L0].
  { (* step S a went backward *)
    exfalso. assert (G : forall l' s', lft s' <= S a -> run POL hi m s' l' -> forall z s2, In (z, s2) l' ->
      lft s2 <= S a).
    { induction l' as [|[z' s3] l' IH']; simpl; intros s' Hs' R' z s2 I'; [tauto|]. destruct R' as (T' & _ & R').
      apply lft_step in T'. destruct I' as [I'|I']. { inversion I'; subst. lia. } apply (IH' s3) with z; auto. lia. }
    destruct I as [I|I]. { inversion I; subst. lia. } specialize (G l s0 L0 R x s1 I). lia. }
  assert (D0 : Held a hi (m - (alpha - 1)) s0).
  { destruct H as (H1 & H2). assert (E0 : evi a (S a) y = 0) by lia.
    assert (ND : ~ Dead a s0). { intro D. pose proof (Dead_run l m a hi s0 D R ltac:(lia)). lia. }
    assert (H3 : int s0 a = true -> right_room POL (S a) hi s0 <= m - (alpha - 1)).
    { intro Q. apply (room_above m a hi s0 Ha Q Cs). }
    clear IH I F E Hs1. unfold Dead, Held in *. destruct SHARED_fair as (_ & M).
    inversion T; subst; simpl in H1, H2, H3, ND, L0, Hl; simpl.
    - destruct H2 as [(A & B)|(A & B)]; [|discriminate]. auto.
    - destruct H2 as [(A & B)|(A & B)]; [|discriminate]. split; auto. left. split; auto. intro Q. inj.
      rewrite record_self in E0. discriminate.
    - destruct H2 as [(A & B)|(A & B)]. { split; auto. left. split; auto. discriminate. }
      inj. lia.
    - destruct H2 as [(A & B)|(A & B)]; [|discriminate]. auto.
    - split; auto. eapply Nat.le_trans; [|exact H1]. apply right_room_keep; auto. apply SHARED_sharing.
    - destruct H2 as [(A & B)|(A & B)].
      + assert (Q : add i p a = true) by (unfold add; rewrite A; destruct (a =? p); auto). split; auto. left.
        split; auto. discriminate.
      + inj. assert (Q : add i a a = true) by (unfold add; rewrite Nat.eqb_refl; auto). split; auto. left.
        split; auto. discriminate.
    - destruct H2 as [(A & B)|(A & B)]; [|discriminate]. split; auto.
    - destruct H2 as [(A & B)|(A & B)]; [|discriminate]. split.
      + eapply Nat.le_trans; [|exact H1]. apply right_room_le; auto. simpl. intros z. unfold right_int, del.
        destruct (z =? p); auto. rewrite andb_false_r. discriminate.
      + destruct (Nat.eq_dec p a) as [->|N].
        * right. split; auto. unfold del. now rewrite Nat.eqb_refl.
        * left. split. { unfold del. cases. } intro Q. inj. lia.
    - split; auto. eapply Nat.le_trans; [|exact H1]. apply right_room_le; auto. simpl. intros z. unfold right_hid, del.
      destruct (z =? q); auto. rewrite andb_false_r, orb_false_r. intros ->. auto.
    - split.
      + eapply Nat.le_trans; [|exact H1]. apply right_room_le; auto. simpl. intros z. unfold right_int, del.
        destruct (z =? p); auto. rewrite andb_false_r. discriminate.
      + destruct (Nat.eq_dec p a) as [->|N].
        * exfalso. destruct H2 as [(A & B)|(A & B)]; [|congruence]. apply ND. repeat split; auto; try lia.
          unfold del. now rewrite Nat.eqb_refl.
        * destruct H2 as [(A & B)|(A & B)]; [left | right]; split; auto; unfold del; cases. }
  destruct I as [I|I]. { inversion I; subst. apply D0. }
  apply (IH m a hi s0) with x; auto. lia.
Qed.

(* an idle machine takes no step backward *)
Lemma idle_lft : forall pol hi s x s1, step pol hi s x s1 -> core s = None -> lft s1 = lft s.
Proof. intros pol hi s x s1 T H. inversion T; subst; simpl in *; auto; discriminate. Qed.

(* if the first step runs once and its internal state is ever stored, the rest has alpha - 1 slots less *)
Lemma run_once : forall m a hi l, S a < hi -> alpha <= m -> run POL hi m (init a hi) l ->
  lft (fin (init a hi) l) = a -> ev a (S a) l <= 1 ->
  1 <= ev a (S a) l /\ exists l', run POL hi (m - (alpha - 1)) (init (S a) hi) l' /\
    lft (fin (init (S a) hi) l') = S a /\ ev (S a) hi l' <= ev (S a) hi l.
Proof.
  intros m a hi l Ha Hm R F E.
  assert (E1 : 1 <= ev a (S a) l).
  { destruct (first_backward POL m a hi l R F ltac:(lia)) as (l1 & l2 & El & B1 & B2 & B3 & B4 & B5).
    destruct (Nat.eq_dec (ev a (S a) l) 0) as [Z|]; [|lia]. exfalso.
    assert (D : Dead a (init a hi)) by (unfold Dead, init; simpl; repeat split; try discriminate; lia).
    pose proof (Dead_run l m a hi _ D R Z). lia. }
  split; auto.
  apply right_part with m a; auto; try lia. apply SHARED_fair. { simpl. lia. }
  (* the first evaluation of step a *)
  assert (First : exists j1 x s1 j2, l = j1 ++ (x, s1) :: j2 /\ ev a (S a) j1 = 0 /\ 1 <= evi a (S a) x).
  { clear -E1. induction l as [|[x s1] l IH]; simpl in *; [lia|]. destruct (Nat.eq_dec (evi a (S a) x) 0) as [Z|Z].
    - destruct IH as (j1 & x' & s' & j2 & A & B & D); [lia|]. exists ((x, s1) :: j1), x', s', j2. subst. simpl.
      rewrite Z. auto.
    - exists [], x, s1, l. simpl. repeat split; auto. lia. }
  destruct First as (j1 & x & s1 & j2 & El & E0 & Ex).
  assert (E2 : ev a (S a) j2 = 0 /\ evi a (S a) x = 1).
  { rewrite El, ev_app in E. simpl in E. lia. }
  destruct E2 as (E2 & E3).
  (* until then only the start is stored *)
  assert (Fresh : forall k1 k2, j1 = k1 ++ k2 -> let s := fin (init a hi) k1 in
            (forall q, hid s q = true -> q = a) /\ (forall p, int s p = false) /\ core s = None).
  { intros k1 k2 Ek. simpl. assert (Rk : run POL hi m (init a hi) k1).
    { rewrite El, run_app in R. destruct R as (R & _). rewrite Ek, run_app in R. tauto. }
    assert (Z : ev a (S a) k1 = 0) by (rewrite Ek, ev_app in E0; lia).
    assert (I : Inv a (S a) (0 + ev a (S a) k1) (fin (init a hi) k1)) by (eapply Inv_run; eauto; apply Inv_init).
    rewrite Z in I. destruct I as (A & B & D & G). repeat split.
    - intros q Q. apply A in Q. lia.
    - intros p. destruct (int (fin (init a hi) k1) p) eqn:Q; auto. apply B in Q. lia.
    - destruct (core (fin (init a hi) k1)) eqn:Q; auto. destruct (G _ eq_refl) as (G1 & G2). apply D in G1. lia. }
  assert (Small : forall h w c n, (forall q, h q = true -> q = a) -> forall i, (forall p, i p = false) ->
            right_room POL (S a) hi (mk w c h i n) <= m - (alpha - 1)).
  { intros h w c n H1 i H2. apply Nat.le_trans with 1; [|lia].
    change 1 with (weigh POL true false false). rewrite <- (right_room_init POL a (S a) hi SHARED_fair) by lia.
    destruct SHARED_fair as (_ & M). apply right_room_le; auto; simpl.
    - intros z. unfold right_hid. destruct (h z) eqn:Q; [apply H1 in Q; subst z|]; cases.
    - intros p. unfold right_int. rewrite H2, andb_false_r. auto. }
  assert (S1 : Held a hi (m - (alpha - 1)) s1 /\ S a < lft s1 /\ run POL hi m s1 j2 /\ lft (fin s1 j2) = a).
  { destruct (Fresh j1 [] ltac:(now rewrite app_nil_r)) as (A & B & D).
    pose proof R as R0. rewrite El, run_app in R0. destruct R0 as (R1 & T & Cs & R2).
    assert (F2 : lft (fin s1 j2) = a) by (rewrite El, fin_app in F; exact F).
    destruct (le_lt_dec (lft s1) (S a)) as [L|L].
    { exfalso. clear -L T El R1 R F Ha Ex B D E0. remember (fin (init a hi) j1) as s eqn:Es.
      assert (Hs : lft s1 = lft s) by (apply (idle_lft _ _ _ _ _ T); auto).
      destruct (Nat.eq_dec (lft s) hi) as [|N]; [lia|].
      assert (Lt : lft s < lft (init a hi)).
      { pose proof (lft_run _ _ _ _ _ R1) as Q. rewrite <- Es in Q. simpl in *. lia. }
      rewrite Es in Lt. destruct (first_bwd j1 POL m hi (init a hi) R1 Lt) as (k1 & y & k2 & s2 & Ek & B1 & B2 & _).
      rewrite Ek, !run_app in R1. destruct R1 as ((R1 & _) & _).
      assert (I : Inv a (S a) (0 + ev a (S a) k1) (fin (init a hi) k1)) by (eapply Inv_run; eauto; apply Inv_init).
      assert (Z : ev a (S a) k1 = 0) by (rewrite Ek, !ev_app in E0; lia). rewrite Z in I.
      destruct I as (_ & _ & I1 & I2). destruct (I2 _ B2) as (I3 & _). apply I1 in I3. simpl in B1. lia. }
    assert (ND : ~ Dead a s1). { intro Q. pose proof (Dead_run j2 m a hi s1 Q R2 E2). lia. }
    repeat split; auto; clear El R F E E0 R1 Fresh F2 Cs; revert A B D T; generalize (fin (init a hi) j1);
      intros s A B D T;
      inversion T; subst; simpl in A, B, D; try (exfalso; cbv [evi span fst snd] in Ex; lia).
    - apply Small; auto.
    - apply Small; auto.
    - exfalso. apply ND. unfold Dead; simpl. repeat split; auto; try discriminate. simpl in L. lia.
    - right. simpl. split; auto. f_equal. apply record_only. exact Ex. }
  destruct S1 as (S1 & S2 & S3 & S4). intros y s I Hs. rewrite El in I. apply in_app_or in I. destruct I as [I|[I|I]].
  - apply in_split in I. destruct I as (k1 & k2 & Ek).
    destruct (Fresh (k1 ++ [(y, s)]) k2) as (A & B & D). { rewrite Ek, <- app_assoc. auto. }
    rewrite fin_app in A, B. simpl in A, B. destruct s as [w c h i n]. simpl in A, B. apply Small; auto.
  - inversion I; subst. apply S1.
  - apply (held_run j2 m a hi s1) with y; auto.
Qed.
End Shared.
