(* The first steps of a priced schedule, as a schedule of their own that reads its start first. *)
From Membptt Require Import Laws Policies Projection Cut Hsm PricedCost.

Section Priced.
Context {c : prices}.
Notation fw := (forward c). Notation w := (write c). Notation r := (read c).

(* once the left part is at work, a run of the steps up to v, at what is paid below v *)
Lemma left_run : forall l v a m hi s s', NI s -> run HSM hi m s l -> Lt v s s' -> a <= v <= hi ->
  exists l', run HSM v m s' l' /\ Lt v (fin s l) (fin s' l') /\ tot pr l' <= tot (lc v) l /\
    tot (ps v) l <= tot (ps v) l'.
Proof.
  induction l as [|[x s1] l IHl]; intros v a m hi s s' N R L Hv.
  - exists []. simpl. auto.
  - destruct R as (T & C & R). pose proof (NI_step _ _ _ _ N T) as N1.
    assert (STEP : (exists x' s1', step HSM v s' x' s1' /\ Lt v s1 s1' /\ pr x' <= lc v x /\ ps v x <= ps v x') \/
                   (Lt v s1 s' /\ ps v x = 0)).
    { destruct s' as [w' c' h' i' n']. destruct L as (L1 & L2 & L3 & L4 & L5). unfold Lt.
      inv T N; subst.
      - destruct (le_lt_dec v p).
        + right. split; [tidy | cases].
        + left. rewrite (L4 _ eq_refl) by lia. eexists (Advance p (Nat.min q v)), _.
          simpl. split; [constructor; lia|]. split; [tidy|]. split; [lia|]. cases.
      - destruct (le_lt_dec v p).
        + right. split; [tidy | auto].
        + left. rewrite (L4 _ eq_refl) by lia. eexists (Record p), _. simpl. split; [constructor; lia|].
          split; [tidy|]. split; [cases | auto].
      - destruct (Nat.ltb_spec p v).
        + left. replace (Nat.min (S p) v) with (S p) by lia. eexists (Backpropagate p), _. simpl.
          split; [constructor|]. split; [tidy|]. auto.
        + right. split; [tidy | auto].
      - destruct (le_lt_dec v q).
        + right. split; [tidy | auto].
        + left. rewrite (L4 _ eq_refl) by lia. eexists (StoreHidden q), _. simpl.
          split; [constructor; auto; rewrite L2, H0; apply andb_false_r|]. split; [tidy|]. split; [cases | auto].
      - destruct (le_lt_dec v q).
        + right. split; [tidy | auto].
        + left. eexists (Restore q), _. simpl. split; [apply Res | split; [tidy | split; [cases | auto]]].
          unfold available in *. simpl in *. rewrite L2. rewrite (proj2 (Nat.ltb_lt q v)) by lia.
          apply orb_prop in H. destruct H as [H|H]; [|discriminate]. apply orb_prop in H. destruct H as [->|H]; auto.
          destruct q; simpl in H; [discriminate|]. unfold NI in N. simpl in N. rewrite N in H. discriminate.
      - destruct (le_lt_dec v q).
        + right. split; [tidy | auto].
        + left. eexists (DropHidden q), _. simpl. split; [apply DrH; auto; rewrite L2, H0; cases|].
          split; [tidy | auto]. }
    destruct STEP as [(x' & s1' & T' & L' & E & E2) | (L' & E)].
    + destruct (IHl v a m hi s1 s1' N1 R L' Hv) as (l' & R' & F' & E' & E3).
      exists ((x', s1') :: l'). simpl. repeat split; auto; try lia; try apply F'.
      pose proof (Lt_room HSM v hi s1 s1' (proj2 HSM_fair) L'). lia.
    + destruct (IHl v a m hi s1 s' N1 R L' Hv) as (l' & R' & F' & E' & E3).
      exists l'. simpl. repeat split; auto; try lia; apply F'.
Qed.

(* with nothing stored below v but the start, and the machine at work above, the rest of a run does the steps below v
   from scratch, and reads the start first *)
Lemma left_virgin : forall l v a m hi s, NI s -> run HSM hi m s l -> a < v <= hi -> v <= lft s -> lft (fin s l) = a ->
  (forall x, x < v -> hid s x = (x =? a)) -> (forall q, pos s = Some q -> v <= q) ->
    (forall p, core s = Some p -> v <= p) ->
  exists l', run HSM v m (init a v) l' /\ lft (fin (init a v) l') = a /\ tot pr l' + r <= tot (lc v) l /\
             tot (ps v) l <= tot (ps v) l'.
Proof.
  induction l as [|[x s1] l IH]; intros v a m hi s N R Hv Hl Hf HH HP HC; simpl in Hf; [lia|].
  destruct R as (T & C & R). pose proof (NI_step _ _ _ _ N T) as N1.
  assert (GO : v <= lft s1 -> (forall y, y < v -> hid s1 y = (y =? a)) -> (forall q, pos s1 = Some q -> v <= q) ->
    (forall p, core s1 = Some p -> v <= p) -> ps v x = 0 ->
    exists l', run HSM v m (init a v) l' /\ lft (fin (init a v) l') = a /\ tot pr l' + r <= tot (lc v) ((x, s1) :: l) /\
      tot (ps v) ((x, s1) :: l) <= tot (ps v) l').
  { intros. destruct (IH v a m hi s1) as (l' & A & B & D & E); auto. exists l'. simpl. repeat split; auto; lia. }
  pose proof (conj Hf I) as Hf2. clear Hf. inv T N.
  - specialize (HP _ eq_refl). apply GO; auto; intros; inj; try discriminate; try lia. cases.
  - specialize (HP _ eq_refl). apply GO; auto; intros; inj; try discriminate; try lia.
  - specialize (HC _ eq_refl). apply GO; auto; intros; inj; try discriminate; try lia.
  - specialize (HP _ eq_refl). apply GO; auto; intros; inj; try discriminate; try lia.
    unfold add. destruct (Nat.eqb_spec y q); [lia | auto].
  - destruct (le_lt_dec v q) as [Hq|Hq].
    { apply GO; auto; intros; inj; try discriminate; lia. }
    assert (q = a).
    { unfold available in H. simpl in H. rewrite HH in H by auto. apply orb_prop in H. destruct H as [H|H];
        [|discriminate].
      apply orb_prop in H. destruct H as [H|H]. { now apply Nat.eqb_eq in H. }
      destruct q; simpl in H; [discriminate|]. unfold NI in N. simpl in N. rewrite N in H. discriminate. }
    subst q. destruct (left_run l v a m hi (mk (Some a) None h i n) (init a v) N1 R) as (l' & A & B & D & E); try lia.
    { unfold Lt, init; simpl. repeat split; auto; try lia.
      - intros y. destruct (Nat.ltb_spec y v); simpl. { symmetry. auto. } apply Nat.eqb_neq. lia.
      - intros p. unfold NI in N. simpl in N. rewrite N. now rewrite andb_false_r. }
    exists l'. repeat split; auto. { destruct B as (B & _). destruct Hf2. lia. }
    rewrite (proj2 (Nat.ltb_lt a v)) by lia. lia.
  - destruct (le_lt_dec v q) as [Hq|Hq].
    { apply GO; auto; intros; inj; try discriminate; try lia.
      unfold del. destruct (Nat.eqb_spec y q); [lia | auto]. }
    exfalso. match type of R with run _ _ _ ?S _ => assert (AB : Above a S) end.
    { rewrite HH in H0 by auto. apply Nat.eqb_eq in H0. subst q. unfold Above; simpl. repeat split; auto; try lia.
      - intros y Q. apply del_true in Q. destruct Q as (Q1 & Q2). destruct (le_lt_dec v y); [lia|].
        rewrite HH in Q2 by auto. apply Nat.eqb_eq in Q2. lia.
      - intros p Q. unfold NI in N. simpl in N. rewrite N in Q. discriminate.
      - intros y Q. apply HP in Q. lia.
      - intros y Q. apply HC in Q. lia. }
    destruct Hf2. eapply Above_run in AB; eauto. lia.
Qed.
End Priced.
