(* Hidden states in one tier whose writes and reads have prices (two tiers without fast slots): the least cost over all
   legal schedules, for all t, slots and prices. The induction is over cost minus one read for each arrival at the last
   position, which has no use there: a run of the first steps is then allowed to be the way to the others. *)
From Membptt Require Import Laws Policies Projection Cut Hsm.

(* the prices of a forward, a write, a read *)
Structure prices := Prices { forward : nat; write : nat; read : nat }.

(* a sum over the actions of a run *)
Fixpoint tot (g : act -> nat) (l : trace) := match l with [] => 0 | (x, _) :: r => g x + tot g r end.
Lemma tot_app : forall g l1 l2, tot g (l1 ++ l2) = tot g l1 + tot g l2.
Proof. induction l1 as [|[x s] l1 IH]; simpl; intros; auto. rewrite IH. lia. Qed.

Section Priced.
Variable c : prices.
Notation fw := (forward c). Notation w := (write c). Notation r := (read c).

(* what an action costs *)
Definition pr x := match x with
  | Advance p q => fw * (q - p) | Record _ => fw | StoreHidden _ => w | Restore _ => r | _ => 0 end.
(* its part below v, and its part from v on *)
Definition lc v x := match x with
  | Advance p q => fw * (Nat.min q v - p) | Record p => if p <? v then fw else 0
  | StoreHidden q => if q <? v then w else 0 | Restore q => if q <? v then r else 0 | _ => 0 end.
Definition rc v x := match x with
  | Advance p q => fw * (q - Nat.max p v) | Record p => if p <? v then 0 else fw
  | StoreHidden q => if q <? v then 0 else w | Restore q => if q <? v then 0 else r | _ => 0 end.
(* an arrival from below at v or beyond; a restart below v, from v on; a store at v; a backward below v *)
Definition ps v x := match x with Advance p q => if (p <? v) && (v <=? q) then 1 else 0 | _ => 0 end.
Definition lres v x := match x with Restore q => if q <? v then 1 else 0 | _ => 0 end.
Definition rres v x := match x with Restore q => if q <? v then 0 else 1 | _ => 0 end.
Definition stv v x := match x with StoreHidden q => if q =? v then 1 else 0 | _ => 0 end.
Definition bk v x := match x with Backpropagate p => if p <? v then 1 else 0 | _ => 0 end.

(* the working state, or the core, is below v *)
Definition low v s := match core s with Some p => if p <? v then 1 else 0
  | None => match pos s with Some q => if q <? v then 1 else 0 | None => 0 end end.
(* the working state is one of v .. hi-1 *)
Definition mid v hi s := match core s with Some _ => 0
  | None => match pos s with Some q => if (v <=? q) && (q <? hi) then 1 else 0 | None => 0 end end.
Definition NI s := forall p, int s p = false.

Lemma NI_step : forall hi s x s1, NI s -> step HSM hi s x s1 -> NI s1.
Proof. unfold NI. inversion 2; subst; simpl in *; auto; try discriminate; try congruence. Qed.

Ltac inv T NIs := inversion T; subst; simpl in *; try discriminate;
  try (match goal with H : ?i ?p = true |- _ => unfold NI in NIs; simpl in NIs; rewrite NIs in H; discriminate end).

(* the two parts of a cost *)
Lemma parts : forall hi s x s1 v, NI s -> step HSM hi s x s1 -> lc v x + rc v x = pr x.
Proof.
  intros hi s x s1 v N T. inv T N; cases. rewrite <- Nat.mul_add_distr_l. f_equal. lia.
Qed.
Lemma parts_run : forall l m hi s v, NI s -> run HSM hi m s l -> tot (lc v) l + tot (rc v) l = tot pr l.
Proof.
  induction l as [|[x s1] l IH]; simpl; intros; auto. destruct H0 as (T & _ & R).
  pose proof (parts _ _ _ _ v H T). pose proof (IH _ _ _ v (NI_step _ _ _ _ H T) R). lia.
Qed.
(* evaluations and restarts below v are paid below v *)
Lemma left_pays : forall l a v, fw * ev a v l + r * tot (lres v) l <= tot (lc v) l.
Proof.
  induction l as [|[x s1] l IH]; simpl; intros; [lia|]. specialize (IH a v).
  assert (fw * evi a v x + r * lres v x <= lc v x); [|lia].
  unfold evi, lc, lres. destruct x; simpl; try lia.
  - rewrite Nat.mul_0_r, Nat.add_0_r. apply Nat.mul_le_mono_l. lia.
  - rewrite Nat.mul_0_r, Nat.add_0_r. destruct (Nat.ltb_spec p v).
    + replace fw with (fw * 1) at 2 by lia. apply Nat.mul_le_mono_l. lia.
    + replace (Nat.min (S p) v - Nat.max p a) with 0 by lia. lia.
  - destruct (q <? v); lia.
Qed.

(* every arrival at v and every backward below v needs a restart below v of its own, but for the first *)
Lemma segments : forall l m hi s v, NI s -> run HSM hi m s l ->
  tot (ps v) l + tot (bk v) l + low v (fin s l) <= tot (lres v) l + low v s.
Proof.
  induction l as [|[x s1] l IH]; simpl; intros; auto. destruct H0 as (T & _ & R).
  specialize (IH _ _ _ v (NI_step _ _ _ _ H T) R).
  assert (ps v x + bk v x + low v s1 <= lres v x + low v s); [|lia]. clear IH R.
  unfold low. inv T H; cases.
Qed.
(* every arrival at the end needs an arrival at v or a restart from v on of its own *)
Lemma segments_right : forall l m hi s v, NI s -> run HSM hi m s l -> v <= hi ->
  tot (ps hi) l + mid v hi (fin s l) <= tot (rres v) l + tot (ps v) l + mid v hi s.
Proof.
  induction l as [|[x s1] l IH]; simpl; intros; auto. destruct H0 as (T & _ & R).
  specialize (IH _ _ _ v (NI_step _ _ _ _ H T) R H1).
  assert (ps hi x + mid v hi s1 <= rres v x + ps v x + mid v hi s); [|lia]. clear IH R.
  unfold mid. inv T H; cases.
Qed.
(* what is restarted and stored from v on is paid there *)
Lemma right_pays : forall l v, w * tot (stv v) l + r * tot (rres v) l <= tot (rc v) l.
Proof.
  induction l as [|[x s1] l IH]; simpl; intros; [lia|]. specialize (IH v).
  assert (w * stv v x + r * rres v x <= rc v x); [|lia].
  unfold stv, rc, rres. destruct x; simpl; rewrite ?Nat.mul_0_r; try lia.
  - apply Nat.le_0_l.
  - destruct (Nat.eqb_spec q v), (Nat.ltb_spec q v); lia.
  - destruct (Nat.ltb_spec q v); lia.
Qed.
(* a step below v goes backward *)
Lemma backs : forall l m hi s v, run HSM hi m s l -> v <= lft s -> lft (fin s l) < v -> 1 <= tot (bk v) l.
Proof.
  induction l as [|[x s1] l IH]; simpl; intros; [lia|]. destruct H as (T & _ & R).
  destruct (le_lt_dec v (lft s1)). { specialize (IH _ _ _ v R l0 H1). lia. }
  inversion T; subst; simpl in *; try lia. cases.
Qed.

(* ---------------------------------------------------------------- the first steps *)

(* once the left part is at work, a run of the steps up to v, at what is paid below v *)
Lemma left_run : forall l v a m hi s s', NI s -> run HSM hi m s l -> Lt v s s' -> a <= v <= hi ->
  exists l', run HSM v m s' l' /\ Lt v (fin s l) (fin s' l') /\ tot pr l' <= tot (lc v) l /\ tot (ps v) l <= tot (ps v) l'.
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
        + left. replace (Nat.min (S p) v) with (S p) by lia. eexists (Backpropagate p), _. simpl. split; [constructor|].
          split; [tidy|]. auto.
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
        + left. eexists (DropHidden q), _. simpl. split; [apply DrH; auto; rewrite L2, H0; cases|]. split; [tidy | auto]. }
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
  (forall x, x < v -> hid s x = (x =? a)) -> (forall q, pos s = Some q -> v <= q) -> (forall p, core s = Some p -> v <= p) ->
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
    { unfold available in H. simpl in H. rewrite HH in H by auto. apply orb_prop in H. destruct H as [H|H]; [|discriminate].
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

(* ---------------------------------------------------------------- the last steps *)

(* s' is s for the steps from v on, with v stored; fresh: v was not reached yet, and s' is there *)
Definition rel (fresh : bool) v hi s s' :=
  lft s' = lft s /\ (forall x, hid s' x = right_hid v hi (hid s) x) /\ NI s' /\
  (forall q, core s = None -> pos s = Some q -> v <= q -> q < hi -> pos s' = Some q) /\
  core s' = match core s with Some p => if v <=? p then Some p else None | None => None end /\
  (fresh = true -> pos s' = Some v /\ (forall q, v <= q -> hid s q = false) /\
     (forall q, core s = None -> pos s = Some q -> q < v) /\ (forall p, core s = Some p -> p < v)).

Lemma rel_room : forall fresh v hi s s', NI s -> rel fresh v hi s s' -> room HSM hi s' = right_room HSM v hi s.
Proof.
  intros fresh v hi s s' N (_ & A & B & _). rewrite room_sumr. unfold right_room. apply sumr_ext. intros x _.
  unfold weight. simpl. now rewrite A.
Qed.

Ltac nofresh f := destruct f; [exfalso; match goal with H : true = true -> _ |- _ => destruct (H eq_refl) as (? & ? & ? & ?) end|].

Lemma right_run : forall l fresh v m m' hi s s', NI s -> run HSM hi m s l -> rel fresh v hi s s' -> v < hi -> v < lft s ->
  lft (fin s l) <= v -> right_room HSM v hi s <= m' ->
  (forall x s1, In (x, s1) l -> v < lft s1 -> right_room HSM v hi s1 <= m') ->
  exists l', run HSM hi m' s' l' /\ lft (fin s' l') = v /\
    tot pr l' + (if fresh then r else 0) + w * tot (stv v) l + r * tot (ps hi) l
    <= tot (rc v) l + r * tot (ps v) l + r * tot (ps hi) l'.
Proof.
  induction l as [|[x s1] l IH]; intros fresh v m m' hi s s' N R L Hv Hl Hf Hr Hall.
  { simpl in Hf. lia. }
  destruct R as (T & C & R). simpl in Hf. pose proof (NI_step _ _ _ _ N T) as N1.
  pose proof (rel_room _ _ _ _ _ N L) as Er.
  destruct (le_lt_dec (lft s1) v) as [Hd|Hd].
  { (* step v goes backward: stop *)
    destruct L as (L1 & L2 & L3 & L4 & L5 & L6). destruct s' as [w' c' h' i' n'].
    pose proof (segments_right l m hi s1 v N1 R ltac:(lia)) as SR. pose proof (right_pays l v) as RP.
    inv T N; subst; try lia. assert (p = v) by lia. subst p.
    assert (fresh = false). { destruct fresh; auto. destruct (L6 eq_refl) as (_ & _ & _ & K). specialize (K _ eq_refl). lia. }
    subst fresh. exists [(Backpropagate v, mk None None h' i' v)]. simpl.
    rewrite (proj2 (Nat.leb_le v v)) in * by lia. repeat split; auto.
    - constructor.
    - unfold room in *. simpl in *. lia.
    - rewrite !Nat.mul_0_r. unfold mid in SR at 2. simpl in SR.
      assert (r * tot (ps hi) l <= r * (tot (rres v) l + tot (ps v) l)) by (apply Nat.mul_le_mono_l; lia). lia. }
  assert (Hr1 : right_room HSM v hi s1 <= m') by (eapply Hall; [left; reflexivity | auto]).
  assert (Hall1 : forall x0 s2, In (x0, s2) l -> v < lft s2 -> right_room HSM v hi s2 <= m') by (intros; eapply Hall; eauto; right; eauto).
  assert (STEP : exists l0 s1' f1, run HSM hi m' s' l0 /\ fin s' l0 = s1' /\ rel f1 v hi s1 s1' /\
    tot pr l0 + (if fresh then r else 0) + w * stv v x + r * ps hi x <= rc v x + r * ps v x + r * tot (ps hi) l0 + (if f1 then r else 0)).
  { clear IH Hall Hall1 R Hf. destruct s' as [w' c' h' i' n'].
    assert (RM : forall a b d, room HSM hi (mk a b h' i' d) <= m') by (intros; unfold room in *; simpl in *; lia).
    (* nothing to do *)
    assert (SKIP : forall f1, rel f1 v hi s1 (mk w' c' h' i' n') ->
      (if fresh then r else 0) + w * stv v x + r * ps hi x <= rc v x + r * ps v x + (if f1 then r else 0) ->
      exists l0 s1' f2, run HSM hi m' (mk w' c' h' i' n') l0 /\ fin (mk w' c' h' i' n') l0 = s1' /\ rel f2 v hi s1 s1' /\
        tot pr l0 + (if fresh then r else 0) + w * stv v x + r * ps hi x <= rc v x + r * ps v x + r * tot (ps hi) l0 + (if f2 then r else 0)).
    { intros f1 F1 F2. exists [], (mk w' c' h' i' n'), f1. split; [exact I|]. split; [reflexivity|]. split; [exact F1|]. simpl. lia. }
    (* one action, once v was reached *)
    assert (ONE : forall x' s1', fresh = false -> step HSM hi (mk w' c' h' i' n') x' s1' -> rel false v hi s1 s1' ->
      pr x' + w * stv v x + r * ps hi x <= rc v x + r * ps v x + r * ps hi x' ->
      exists l0 s1' f2, run HSM hi m' (mk w' c' h' i' n') l0 /\ fin (mk w' c' h' i' n') l0 = s1' /\ rel f2 v hi s1 s1' /\
        tot pr l0 + (if fresh then r else 0) + w * stv v x + r * ps hi x <= rc v x + r * ps v x + r * tot (ps hi) l0 + (if f2 then r else 0)).
    { intros x' s1' -> F0 F1 F2. exists [(x', s1')], s1', false. split; [|split; [reflexivity|]; split; [exact F1|]; simpl; rewrite !Nat.add_0_r; exact F2].
      split; [exact F0|]. split; [|exact I]. rewrite (rel_room _ _ _ _ _ N1 F1). auto. }
    destruct L as (L1 & L2 & L3 & L4 & L5 & L6). unfold NI in N, N1, L3. simpl in L1, L2, L3, L4, L5, L6.
    assert (AV : available HSM h' i' v = true).
    { unfold available. rewrite L2. unfold right_hid. rewrite Nat.eqb_refl. auto. }
    pose proof (conj L1 L5) as L15. clear L1 L5.
    inversion T; subst; cbn [pos core hid int lft] in *; destruct L15 as (L1 & L5);
      try (match goal with H : _ HSM = true |- _ => simpl in H; discriminate end);
      try (match goal with H : ?f ?p = true |- _ => rewrite N in H; discriminate end).
    - (* advance *) destruct (le_lt_dec v p) as [Hp|Hp].
      { assert (fresh = false).
        { destruct fresh; auto. destruct (L6 eq_refl) as (_ & _ & K & _). specialize (K _ eq_refl eq_refl). lia. } subst fresh.
        rewrite (L4 p) in * by (auto; lia). eapply (ONE (Advance p q)); auto.
        - subst. constructor; auto.
        - unfold rel. simpl. repeat split; auto; intros; discriminate.
        - simpl. replace (Nat.max p v) with p by lia. lia. }
      destruct (le_lt_dec v q) as [Hq|Hq].
      2: { apply (SKIP fresh).
        - unfold rel. simpl. repeat split; auto; intros; try (match goal with E : fresh = true |- _ => destruct (L6 E) as (K1 & K2 & K3 & K4) end); inj; try lia; try discriminate; auto.
        - simpl. replace (q - Nat.max p v) with 0 by lia. rewrite (proj2 (Nat.leb_gt v q)), (proj2 (Nat.leb_gt hi q)) by lia.
          rewrite !andb_false_r. lia. }
      assert (E1 : ps v (Advance p q) = 1).
      { simpl. rewrite (proj2 (Nat.ltb_lt p v)), (proj2 (Nat.leb_le v q)) by lia. auto. }
      assert (E2 : ps hi (Advance p q) = if hi <=? q then 1 else 0).
      { simpl. rewrite (proj2 (Nat.ltb_lt p hi)) by lia. auto. }
      assert (E3 : rc v (Advance p q) = fw * (q - v)) by (simpl; f_equal; lia).
      assert (RL : forall x', x' = Some q -> rel false v hi (mk (Some q) None h i n) (mk x' None h' i' n')).
      { intros x' ->. unfold rel. simpl. repeat split; auto; intros; discriminate. }
      destruct fresh.
      + destruct (L6 eq_refl) as (K1 & _). destruct (Nat.eq_dec q v) as [->|Nq].
        * apply (SKIP false); [subst; auto|]. rewrite E1, E2, E3. rewrite (proj2 (Nat.leb_gt hi v)) by lia. simpl. lia.
        * exists [(Advance v q, mk (Some q) None h' i' n')], (mk (Some q) None h' i' n'), false.
          split; [|split; [reflexivity|]; split; [auto|]].
          { split; [subst; constructor; lia|]. split; [apply RM | exact I]. }
          change (tot pr [(Advance v q, mk (Some q) None h' i' n')]) with (fw * (q - v) + 0).
          change (tot (ps hi) [(Advance v q, mk (Some q) None h' i' n')]) with (ps hi (Advance v q) + 0).
          rewrite E1, E2, E3. simpl. rewrite (proj2 (Nat.ltb_lt v hi)) by lia. simpl. lia.
      + destruct (Nat.eq_dec q v) as [->|Nq].
        * exists [(Restore v, mk (Some v) None h' i' n')], (mk (Some v) None h' i' n'), false.
          split; [|split; [reflexivity|]; split; [auto|]].
          { split; [subst; constructor; auto|]. split; [apply RM | exact I]. }
          rewrite E1, E2, E3. rewrite (proj2 (Nat.leb_gt hi v)) by lia. simpl. lia.
        * exists [(Restore v, mk (Some v) None h' i' n'); (Advance v q, mk (Some q) None h' i' n')], (mk (Some q) None h' i' n'), false.
          split; [|split; [reflexivity|]; split; [auto|]].
          { split; [subst; constructor; auto|]. split; [apply RM|]. split; [constructor; lia|]. split; [apply RM | exact I]. }
          change (tot pr [(Restore v, mk (Some v) None h' i' n'); (Advance v q, mk (Some q) None h' i' n')]) with (r + (fw * (q - v) + 0)).
          change (tot (ps hi) [(Restore v, mk (Some v) None h' i' n'); (Advance v q, mk (Some q) None h' i' n')]) with (ps hi (Advance v q) + 0).
          rewrite E1, E2, E3. simpl. rewrite (proj2 (Nat.ltb_lt v hi)) by lia. simpl. lia.
    - (* record *) destruct (Nat.leb_spec v p).
      + assert (fresh = false).
        { destruct fresh; auto. destruct (L6 eq_refl) as (_ & _ & K & _). specialize (K _ eq_refl eq_refl). lia. } subst fresh.
        rewrite (L4 p) in * by auto. eapply (ONE (Record p)); auto.
        * subst. constructor. lia.
        * unfold rel. simpl. rewrite (proj2 (Nat.leb_le v p)) by lia. repeat split; auto; intros; discriminate.
        * simpl. rewrite (proj2 (Nat.ltb_ge p v)) by lia. lia.
      + apply (SKIP fresh); [|simpl; lia]. unfold rel. simpl. rewrite (proj2 (Nat.leb_gt v p)) by lia.
        repeat split; auto; intros; try discriminate;
          try (match goal with E : fresh = true |- _ => destruct (L6 E) as (K1 & K2 & K3 & K4) end; auto); inj; auto.
    - (* backward *) destruct (Nat.leb_spec v p); [|lia].
      assert (fresh = false).
      { destruct fresh; auto. destruct (L6 eq_refl) as (_ & _ & _ & K). specialize (K _ eq_refl). lia. } subst fresh.
      eapply (ONE (Backpropagate p)); auto.
      + subst. constructor.
      + unfold rel. simpl. repeat split; auto; intros; discriminate.
      + simpl. lia.
    - (* store *) destruct (le_lt_dec q v) as [Hq|Hq]; [|destruct (le_lt_dec hi q) as [Hq'|Hq']].
      + apply (SKIP fresh).
        * unfold rel. simpl. repeat split; auto; intros; try (match goal with E : fresh = true |- _ => destruct (L6 E) as (K1 & K2 & K3 & K4) end); inj; try discriminate; auto.
          { rewrite L2. unfold right_hid, add. destruct (Nat.eqb_spec x q); auto. subst.
            rewrite (proj2 (Nat.ltb_ge v q)) by lia. auto. }
          { specialize (K3 _ eq_refl eq_refl). unfold add. rewrite (proj2 (Nat.eqb_neq q0 q)) by lia. auto. }
        * simpl. rewrite !Nat.mul_0_r. destruct (Nat.eqb_spec q v), (Nat.ltb_spec q v); lia.
      + assert (fresh = false).
        { destruct fresh; auto. destruct (L6 eq_refl) as (_ & _ & K & _). specialize (K _ eq_refl eq_refl). lia. } subst fresh.
        apply (SKIP false).
        * unfold rel. simpl. repeat split; auto; intros; inj; try discriminate.
          rewrite L2. unfold right_hid, add. destruct (Nat.eqb_spec x q); auto. subst.
          rewrite (proj2 (Nat.ltb_ge q hi)) by lia. now rewrite !andb_false_r.
        * simpl. rewrite !Nat.mul_0_r. destruct (Nat.eqb_spec q v), (Nat.ltb_spec q v); lia.
      + assert (fresh = false).
        { destruct fresh; auto. destruct (L6 eq_refl) as (_ & _ & K & _). specialize (K _ eq_refl eq_refl). lia. } subst fresh.
        rewrite (L4 q) in * by (auto; lia). eapply (ONE (StoreHidden q)); auto.
        * subst. constructor; auto. rewrite L2. unfold right_hid. rewrite (proj2 (Nat.eqb_neq q v)), H0 by lia. now rewrite andb_false_r.
        * unfold rel. simpl. repeat split; auto; intros; inj; try discriminate.
          unfold add at 1. rewrite L2. unfold right_hid, add. destruct (Nat.eqb_spec x q); auto. subst.
          rewrite (proj2 (Nat.ltb_lt q hi)), (proj2 (Nat.ltb_lt v q)) by lia. simpl. now rewrite orb_true_r.
        * simpl. rewrite !Nat.mul_0_r. destruct (Nat.eqb_spec q v), (Nat.ltb_spec q v); lia.
    - (* restore *) destruct (le_lt_dec v q) as [Hq|Hq].
      2: { apply (SKIP fresh).
        - unfold rel. simpl. repeat split; auto; intros; try (match goal with E : fresh = true |- _ => destruct (L6 E) as (K1 & K2 & K3 & K4) end); inj; try lia; try discriminate; auto.
        - simpl. rewrite !Nat.mul_0_r. lia. }
      assert (Hh : h q = true).
      { unfold available in H. simpl in H. apply orb_prop in H. destruct H as [H|H]; [|discriminate].
        apply orb_prop in H. destruct H as [H|H]; auto. destruct q; simpl in H; [discriminate|]. rewrite N in H. discriminate. }
      assert (fresh = false).
      { destruct fresh; auto. destruct (L6 eq_refl) as (_ & K & _). rewrite (K q) in Hh by auto. discriminate. } subst fresh.
      destruct (le_lt_dec hi q) as [Hq'|Hq'].
      + apply (SKIP false).
        * unfold rel. simpl. repeat split; auto; intros; inj; try lia; try discriminate.
        * simpl. rewrite !Nat.mul_0_r. lia.
      + eapply (ONE (Restore q)); auto.
        * subst. constructor. unfold available. rewrite L2. unfold right_hid. rewrite Hh, (proj2 (Nat.ltb_lt q hi)) by lia.
          destruct (Nat.eqb_spec q v); simpl; auto. rewrite (proj2 (Nat.ltb_lt v q)) by lia. auto.
        * unfold rel. simpl. repeat split; auto; intros; inj; try discriminate; auto.
        * simpl. rewrite (proj2 (Nat.ltb_ge q v)) by lia. lia.
    - (* drop *) assert (K2' : fresh = true -> q < v).
      { intros E. destruct (L6 E) as (_ & K & _). destruct (le_lt_dec v q); auto. rewrite K in H0 by auto. discriminate. }
      destruct (le_lt_dec q v) as [Hq|Hq]; [|destruct (le_lt_dec hi q) as [Hq'|Hq']].
      + apply (SKIP fresh); [|simpl; rewrite !Nat.mul_0_r; lia].
        unfold rel. simpl. repeat split; auto; intros; try (match goal with E : fresh = true |- _ => destruct (L6 E) as (K1 & K2 & K3 & K4) end); inj; try discriminate; auto.
        { rewrite L2. unfold right_hid, del. destruct (Nat.eqb_spec x q); auto. subst.
          rewrite (proj2 (Nat.ltb_ge v q)) by lia. auto. }
        { unfold del. rewrite K2 by auto. destruct (q0 =? q); auto. }
      + apply (SKIP fresh); [|simpl; rewrite !Nat.mul_0_r; lia].
        unfold rel. simpl. repeat split; auto; intros; try (match goal with E : fresh = true |- _ => destruct (L6 E) as (K1 & K2 & K3 & K4) end); inj; try discriminate; auto.
        { rewrite L2. unfold right_hid, del. destruct (Nat.eqb_spec x q); auto. subst.
          rewrite (proj2 (Nat.ltb_ge q hi)) by lia. now rewrite !andb_false_r. }
        { unfold del. rewrite K2 by auto. destruct (q0 =? q); auto. }
      + assert (fresh = false). { destruct fresh; auto. specialize (K2' eq_refl). lia. } subst fresh.
        eapply (ONE (DropHidden q)); auto.
        * subst. constructor; auto. rewrite L2. unfold right_hid. rewrite H0, (proj2 (Nat.ltb_lt v q)), (proj2 (Nat.ltb_lt q hi)) by lia.
          now rewrite orb_true_r.
        * unfold rel. simpl. repeat split; auto; intros; inj; try discriminate.
          unfold del at 1. rewrite L2. unfold right_hid, del. destruct (Nat.eqb_spec x q); auto. subst.
          rewrite (proj2 (Nat.eqb_neq q v)) by lia. simpl. now rewrite !andb_false_r.
        * simpl. rewrite !Nat.mul_0_r. lia. }
  destruct STEP as (l0 & s1' & f1 & R0 & F0 & L' & E).
  destruct (IH f1 v m m' hi s1 s1' N1 R L' Hv Hd Hf Hr1 Hall1) as (l' & R' & F' & E').
  exists (l0 ++ l'). rewrite run_app, fin_app, F0, !tot_app. repeat split; auto. simpl. rewrite !Nat.mul_add_distr_l in *. lia.
Qed.

(* ---------------------------------------------------------------- the cut *)

(* Cut.v: where_to_cut, with what it shows of the stored sets *)
Lemma where_cut : forall pol m m' a hi l, fair pol -> sharing pol -> weigh pol true false false <= m' -> a <= hi ->
  run pol hi m (init a hi) l -> lft (fin (init a hi) l) = a ->
  exists v, a <= v <= hi /\
    (forall x s, In (x, s) l -> v < lft s -> right_room pol v hi s <= m') /\
    (v = a \/ exists l1 l2, l = l1 ++ l2 /\ let s := fin (init a hi) l1 in
       a < v /\ core s = None /\ (exists q, pos s = Some q /\ v <= q) /\ v <= lft s /\ v - a <= ev a v l1 /\
       m' < right_room pol (v - 1) hi s /\
       sumr (weight pol (hid s) (int s)) 0 v + m' < weigh pol true false (int s (v - 1)) + m).
Proof.
  intros pol m m' a hi l Fp Sh W Hk R F. destruct Fp as (Z & M).
  assert (Lmax : forall l1 l2, l = l1 ++ l2 -> lft (fin (init a hi) l1) <= hi).
  { intros k1 k2 ->. rewrite run_app in R. destruct R as (R1 & _). apply lft_run in R1. exact R1. }
  destruct (lowest (hi - a) (fun v => forallb (good pol m' v hi) l) a) as (v & Hv & Hg & Hmin).
  { apply forallb_forall. intros [x s] I. apply in_split in I. destruct I as (k1 & k2 & E).
    unfold good. simpl. replace (a + (hi - a)) with hi by lia. apply orb_true_intro. left. apply Nat.leb_le.
    replace s with (fin (init a hi) (k1 ++ [(x, s)])) by (rewrite fin_app; auto).
    apply Lmax with k2. rewrite E, <- app_assoc. auto. }
  exists v. split; [lia|]. split.
  { intros x s I Hl. rewrite forallb_forall in Hg. apply Hg in I. unfold good in I; simpl in I.
    apply orb_prop in I. destruct I as [I|I]; apply Nat.leb_le in I; auto. lia. }
  destruct Hmin as [Hmin|(Hav & Hbad)]; auto. right.
  destruct (first_fail _ _ Hbad) as (k1 & [x s] & k2 & Ek & Hk1g & Hfail).
  assert (Ek' : l = (k1 ++ [(x, s)]) ++ k2) by (rewrite Ek, <- app_assoc; reflexivity).
  exists (k1 ++ [(x, s)]), k2. split; auto. rewrite fin_app. simpl.
  assert (Rk : run pol hi m (init a hi) (k1 ++ [(x, s)])) by (rewrite Ek', run_app in R; tauto).
  assert (I : forall v', Inv a v' (ev a v' (k1 ++ [(x, s)])) s).
  { intro v'. replace s with (fin (init a hi) (k1 ++ [(x, s)])) at 2 by (rewrite fin_app; auto).
    replace (ev a v' (k1 ++ [(x, s)])) with (0 + ev a v' (k1 ++ [(x, s)])) by lia. eapply Inv_run; eauto. apply Inv_init. }
  rewrite run_app in Rk. destruct Rk as (R1 & T & Cs & _).
  unfold good in Hfail; simpl in Hfail. apply orb_false_iff in Hfail. destruct Hfail as (Hl & Hc).
  apply Nat.leb_gt in Hl. apply Nat.leb_gt in Hc.
  (* before it there was room: so it has just stored a state at v or above *)
  assert (Hprev : right_room pol (v - 1) hi (fin (init a hi) k1) <= m').
  { destruct (last_in k1 (init a hi) _ Hk1g) as [->|(x' & E)].
    - change (fin (init a hi) []) with (init a hi). rewrite right_room_init; try lia. split; auto.
    - unfold good in E; simpl in E. apply orb_prop in E. destruct E as [E|E]; apply Nat.leb_le in E; auto.
      apply lft_step in T. lia. }
  assert (I0 : Inv a v (0 + ev a v k1) (fin (init a hi) k1)) by (eapply Inv_run; eauto; apply Inv_init).
  destruct (just_stored pol hi _ x s (v - 1) a v _ T M Sh I0 ltac:(lia)) as (HC & q & HP & Hq).
  pose proof (right_room_split pol (v - 1) hi s (conj Z M) ltac:(lia)) as Hs. replace (S (v - 1)) with v in Hs by lia.
  rewrite room_sumr in Cs. rewrite (sumr_split _ 0 v (S hi)) in Cs by lia.
  repeat split; auto; try lia.
  - exists q. split; auto. lia.
  - destruct (I v) as (_ & _ & B & _). apply B in HP. lia.
Qed.

(* nothing is stored that no step needs *)
Definition neat s := forall q, hid s q = true -> q < lft s.
(* s' is s without what no step needs; lost: the working state of s is restored from there *)
Definition Cl (lost : bool) s s' := lft s' = lft s /\ (forall x, hid s' x = hid s x && (x <? lft s)) /\ NI s' /\
  (lost = false -> pos s' = pos s /\ core s' = core s) /\
  (lost = true -> core s' = None /\ (forall q, pos s = Some q -> lft s <= q) /\ (forall p, core s = Some p -> lft s <= p)).
Definition cr (lost : bool) hi s := if lost then match core s, pos s with None, Some q => if q <? hi then r else 0 | _, _ => 0 end else 0.

Lemma Cl_room : forall lost hi s s', Cl lost s s' -> NI s -> room HSM hi s' <= room HSM hi s.
Proof.
  intros lost hi s s' (_ & A & _) N. rewrite !room_sumr. apply sumr_le. intros x _. unfold weight. simpl. rewrite A.
  destruct (hid s x); simpl; [destruct (x <? lft s)|]; lia.
Qed.

Lemma clean : forall l lost m hi s s', NI s -> run HSM hi m s l -> Cl lost s s' -> room HSM hi s' <= m ->
  exists l' lost', run HSM hi m s' l' /\ Cl lost' (fin s l) (fin s' l') /\ (forall x s1, In (x, s1) l' -> neat s1) /\
    tot pr l' + r * tot (ps hi) l <= tot pr l + r * tot (ps hi) l' + cr lost hi s.
Proof.
  induction l as [|[x s1] l IH]; intros lost m hi s s' N R L Rm.
  { exists [], lost. split; [exact I|]. split; [exact L|]. split; [intros ? ? []|]. simpl. rewrite !Nat.mul_0_r. lia. }
  destruct R as (T & C & R). pose proof (NI_step _ _ _ _ N T) as N1.
  assert (STEP : exists l0 s1' f1, run HSM hi m s' l0 /\ fin s' l0 = s1' /\ Cl f1 s1 s1' /\ (forall x s1, In (x, s1) l0 -> neat s1) /\
    tot pr l0 + r * ps hi x + cr f1 hi s1 <= pr x + r * tot (ps hi) l0 + cr lost hi s).
  { clear IH R.
    assert (SKIP : forall f1, Cl f1 s1 s' -> r * ps hi x + cr f1 hi s1 <= pr x + cr lost hi s ->
      exists l0 s1' f1, run HSM hi m s' l0 /\ fin s' l0 = s1' /\ Cl f1 s1 s1' /\ (forall x s1, In (x, s1) l0 -> neat s1) /\
        tot pr l0 + r * ps hi x + cr f1 hi s1 <= pr x + r * tot (ps hi) l0 + cr lost hi s).
    { intros f1 F1 F2. exists [], s', f1. split; [exact I|]. split; [reflexivity|]. split; [exact F1|].
      split; [intros ? ? []|]. change (tot pr []) with 0. change (tot (ps hi) []) with 0. rewrite Nat.mul_0_r. lia. }
    assert (ONE : forall s1', step HSM hi s' x s1' -> Cl false s1 s1' ->
      exists l0 s1' f1, run HSM hi m s' l0 /\ fin s' l0 = s1' /\ Cl f1 s1 s1' /\ (forall x s1, In (x, s1) l0 -> neat s1) /\
        tot pr l0 + r * ps hi x + cr f1 hi s1 <= pr x + r * tot (ps hi) l0 + cr lost hi s).
    { intros s1' F0 F1. exists [(x, s1')], s1', false. split.
      { split; [exact F0|]. split; [|exact I]. pose proof (Cl_room _ hi _ _ F1 N1). lia. }
      split; [reflexivity|]. split; [exact F1|]. split.
      { intros y s2 [E|[]]. injection E as <- <-. destruct F1 as (A & B & _). intros q Q. rewrite B in Q. rewrite A.
        apply andb_prop in Q. destruct Q as (_ & Q). now apply Nat.ltb_lt in Q. }
      change (tot pr [(x, s1')]) with (pr x + 0). change (tot (ps hi) [(x, s1')]) with (ps hi x + 0). change (cr false hi s1) with 0.
      rewrite !Nat.add_0_r. lia. }
    destruct s' as [w' c' h' i' n']. destruct L as (L1 & L2 & L3 & L4 & L5). unfold NI in N, N1, L3. simpl in L1, L2, L3, L4, L5.
    pose proof (conj L1 I) as L11. clear L1.
    inversion T; subst; cbn [pos core hid int lft] in *; destruct L11 as (L1 & _);
      try (match goal with H : _ HSM = true |- _ => simpl in H; discriminate end);
      try (match goal with H : ?f ?p = true |- _ => rewrite N in H; discriminate end).
    - (* advance *) destruct lost.
      + destruct (L5 eq_refl) as (K1 & K2 & K3). specialize (K2 _ eq_refl). apply (SKIP true).
        * unfold Cl. simpl. repeat split; auto; intros; inj; try discriminate; try lia.
        * unfold cr. simpl. rewrite (proj2 (Nat.ltb_lt p hi)) by lia. simpl. generalize (fw * (q - p)). intros z.
          destruct (Nat.leb_spec hi q), (Nat.ltb_spec q hi); lia.
      + destruct (L4 eq_refl) as (-> & ->). eapply ONE. { subst n'. constructor; auto. }
        unfold Cl. simpl. repeat split; auto; intros; discriminate.
    - (* record *) destruct lost.
      + destruct (L5 eq_refl) as (K1 & K2 & K3). specialize (K2 _ eq_refl). apply (SKIP true).
        * unfold Cl. simpl. repeat split; auto; intros; inj; try discriminate; try lia.
        * unfold cr. simpl. lia.
      + destruct (L4 eq_refl) as (-> & ->). eapply ONE. { subst n'. constructor; auto. }
        unfold Cl. simpl. repeat split; auto; intros; discriminate.
    - (* backward *) destruct lost.
      { destruct (L5 eq_refl) as (K1 & K2 & K3). specialize (K3 _ eq_refl). lia. }
      destruct (L4 eq_refl) as (Ew & ->). destruct (h' p) eqn:Ep.
      + subst n'. exists [(DropHidden p, mk w' (Some p) (del h' p) i' (S p)); (Backpropagate p, mk None None (del h' p) i' p)],
          (mk None None (del h' p) i' p), false.
        assert (F1 : Cl false (mk None None h i p) (mk None None (del h' p) i' p)).
        { unfold Cl. simpl. repeat split; auto; intros; try discriminate. unfold del. rewrite L2.
          destruct (Nat.eqb_spec x p). { subst. rewrite Nat.ltb_irrefl. now rewrite andb_false_r. }
          f_equal. destruct (Nat.ltb_spec x (S p)), (Nat.ltb_spec x p); auto; lia. }
        assert (RR : room HSM hi (mk None None (del h' p) i' p) <= m). { pose proof (Cl_room _ hi _ _ F1 N1). lia. }
        split. { split; [constructor; auto|]. split; [unfold room in *; simpl in *; lia|]. split; [constructor|]. split; [exact RR | exact I]. }
        split; [reflexivity|]. split; [exact F1|]. split; [|simpl; lia].
        destruct F1 as (_ & F1 & _). simpl in F1.
        intros y s2 [Q|[Q|[]]]; injection Q as <- <-; unfold neat; simpl; intros z Z; rewrite F1 in Z;
          apply andb_prop in Z; destruct Z as (_ & Z); apply Nat.ltb_lt in Z; lia.
      + eapply ONE. { subst n'. constructor. }
        unfold Cl. simpl. repeat split; auto; intros; try discriminate. rewrite L2.
        destruct (Nat.eq_dec x p) as [->|]. { rewrite L2 in Ep. rewrite (proj2 (Nat.ltb_lt p (S p))) in Ep by lia.
          rewrite andb_true_r in Ep. rewrite Ep. auto. }
        f_equal. destruct (Nat.ltb_spec x (S p)), (Nat.ltb_spec x p); auto; lia.
    - (* store *) destruct (Nat.ltb_spec q n) as [Hq|Hq].
      + destruct lost.
        { destruct (L5 eq_refl) as (K1 & K2 & K3). specialize (K2 _ eq_refl). lia. }
        destruct (L4 eq_refl) as (-> & ->). eapply ONE. { subst n'. constructor; auto. rewrite L2, H0. auto. }
        unfold Cl. simpl. repeat split; auto; intros; try discriminate. unfold add. rewrite L2.
        destruct (Nat.eqb_spec x q); auto. subst. now rewrite (proj2 (Nat.ltb_lt q n)) by lia.
      + apply (SKIP lost).
        * split; [exact L1|]; split; [|split; [exact L3|]; split; [exact L4 | exact L5]]. simpl. intros. rewrite L2. unfold add.
          destruct (Nat.eqb_spec x q); auto. subst. rewrite (proj2 (Nat.ltb_ge q n)) by lia. now rewrite andb_false_r.
        * unfold cr. simpl. lia.
    - (* restore *)
      assert (Hh : h q = true).
      { unfold available in H. simpl in H. apply orb_prop in H. destruct H as [H|H]; [|discriminate].
        apply orb_prop in H. destruct H as [H|H]; auto. destruct q; simpl in H; [discriminate|]. rewrite N in H. discriminate. }
      assert (c' = None) by (destruct lost; [apply L5 | apply L4]; auto). subst c'.
      destruct (Nat.ltb_spec q n) as [Hq|Hq].
      + eapply ONE. { subst n'. constructor. unfold available. rewrite L2, Hh, (proj2 (Nat.ltb_lt q n)) by lia. auto. }
        unfold Cl. simpl. repeat split; auto; intros; discriminate.
      + apply (SKIP true).
        * unfold Cl. simpl. repeat split; auto; intros; inj; try discriminate; try lia.
        * unfold cr. simpl. rewrite Nat.mul_0_r. destruct (q <? hi); lia.
    - (* drop *) destruct (Nat.ltb_spec q n) as [Hq|Hq].
      + assert (E : h' q = true) by (rewrite L2, H0, (proj2 (Nat.ltb_lt q n)) by lia; auto).
        destruct lost.
        * exists [(DropHidden q, mk w' c' (del h' q) i' n')], (mk w' c' (del h' q) i' n'), true.
          match type of T with step _ _ _ _ ?S => assert (F1 : Cl true S (mk w' c' (del h' q) i' n')) end.
          { split; [exact L1|]; split; [|split; [exact L3|]; split; [exact L4 | exact L5]]. simpl. intros. unfold del. rewrite L2.
            destruct (x =? q); auto. }
          split. { split; [constructor; auto|]. split; [|exact I]. pose proof (Cl_room _ hi _ _ F1 N1). lia. }
          split; [reflexivity|]. split; [exact F1|]. split; [|simpl; lia].
          intros y s2 [Q|[]]. injection Q as <- <-. unfold neat. simpl. intros z Z. apply del_true in Z. destruct Z as (_ & Z).
          rewrite L2 in Z. apply andb_prop in Z. destruct Z as (_ & Z). apply Nat.ltb_lt in Z. lia.
        * destruct (L4 eq_refl) as (-> & ->). eapply ONE. { subst n'. constructor; auto. }
          unfold Cl. simpl. repeat split; auto; intros; try discriminate. unfold del. rewrite L2. destruct (x =? q); auto.
      + apply (SKIP lost).
        * split; [exact L1|]; split; [|split; [exact L3|]; split; [exact L4 | exact L5]]. simpl. intros. rewrite L2. unfold del.
          destruct (Nat.eqb_spec x q); auto. subst. rewrite (proj2 (Nat.ltb_ge q n)) by lia. now rewrite andb_false_r.
        * unfold cr. simpl. lia. }
  destruct STEP as (l0 & s1' & f1 & R0 & F0 & L' & Nt & E).
  assert (Rm1 : room HSM hi s1' <= m). { pose proof (Cl_room _ hi _ _ L' N1). lia. }
  destruct (IH f1 m hi s1 s1' N1 R L' Rm1) as (l' & lost' & R' & F' & Nt' & E').
  exists (l0 ++ l'), lost'. rewrite run_app, fin_app, F0, !tot_app. split; auto. split; auto. split.
  - intros y s2 Q. apply in_app_or in Q. destruct Q; eauto.
  - simpl. rewrite !Nat.mul_add_distr_l in *. lia.
Qed.

(* ---------------------------------------------------------------- the theorem *)

(* the recurrence, one rule a term: plan m t k: k is the cost of some choices for t steps in m slots *)
Inductive plan : nat -> nat -> nat -> Prop :=
| p_none : forall m, plan m 0 0
| p_last : forall m t k, 1 <= m -> plan m t k -> plan m (S t) (fw * S t + (if t =? 0 then 0 else r) + k)
| p_cut : forall m y t k1 k2, 1 <= m -> 1 <= y < t -> plan (m - 1) (t - y) k2 -> plan m y k1 ->
    plan m t (fw * y + r + k1 + (w + k2)).

(* one more slot costs nothing *)
Lemma plan_more : forall m t k, plan m t k -> forall m', m <= m' -> plan m' t k.
Proof.
  induction 1; intros; constructor; auto; try lia. apply IHplan1. lia.
Qed.

Lemma NI_init : forall a hi, NI (init a hi).
Proof. intros a hi p. reflexivity. Qed.
Lemma NI_run : forall l m hi s, NI s -> run HSM hi m s l -> NI (fin s l).
Proof. induction l as [|[x s1] l IH]; simpl; intros; auto. destruct H0 as (T & _ & R). eapply IH; eauto. eapply NI_step; eauto. Qed.
Lemma NI_in : forall l m hi s, NI s -> run HSM hi m s l -> forall x s1, In (x, s1) l -> NI s1.
Proof.
  induction l as [|[y s0] l IH]; simpl; intros; [contradiction|]. destruct H0 as (T & _ & R).
  pose proof (NI_step _ _ _ _ H T). destruct H1 as [E|E]; [injection E as <- <-; auto | eauto].
Qed.
(* what is stored was put there *)
Lemma was_stored : forall l m hi s v, run HSM hi m s l -> hid s v = false -> hid (fin s l) v = true -> 1 <= tot (stv v) l.
Proof.
  induction l as [|[x s1] l IH]; simpl; intros. { congruence. } destruct H as (T & _ & R).
  destruct (hid s1 v) eqn:E; [|specialize (IH _ _ _ _ R E H1); lia].
  assert (stv v x = 1); [|lia]. inversion T; subst; simpl in *; try congruence; try discriminate;
    unfold add, del in E; destruct (Nat.eqb_spec v q); try congruence; subst; now rewrite ?Nat.eqb_refl.
Qed.

(* one step: an arrival at its end is in vain *)
Lemma one_step : forall a m l, run HSM (S a) m (init a (S a)) l -> lft (fin (init a (S a)) l) = a ->
  fw + r * tot (ps (S a)) l <= tot pr l.
Proof.
  intros a m l R F.
  destruct (first_backward HSM m a (S a) l R F ltac:(lia)) as (l1 & l2 & El & _ & _ & _ & _ & B5).
  pose proof (left_pays l a (S a)) as LP. pose proof (parts_run l m (S a) (init a (S a)) (S a) (NI_init _ _) R) as PR.
  pose proof (segments l m (S a) (init a (S a)) (S a) (NI_init _ _) R) as SG.
  pose proof (backs l m (S a) (init a (S a)) (S a) R ltac:(simpl; lia) ltac:(lia)) as BK.
  unfold low at 2 in SG. simpl in SG. rewrite (proj2 (Nat.ltb_lt a (S a))) in SG by lia.
  assert (1 <= ev a (S a) l) by (rewrite El, ev_app; lia).
  assert (fw * 1 <= fw * ev a (S a) l) by (apply Nat.mul_le_mono_l; auto).
  assert (r * tot (ps (S a)) l <= r * tot (lres (S a)) l) by (apply Nat.mul_le_mono_l; lia). lia.
Qed.

(* the two parts of a schedule, and what they cost together *)
Lemma compose : forall a v hi m m' l l1 l2, run HSM hi m (init a hi) l -> lft (fin (init a hi) l) = a -> l = l1 ++ l2 ->
  a < v < hi -> 1 <= m' -> (forall x s, In (x, s) l -> v < lft s -> right_room HSM v hi s <= m') ->
  let s := fin (init a hi) l1 in
  core s = None -> (forall q, pos s = Some q -> v <= q) -> v <= lft s -> v - a <= ev a v l1 ->
  (forall x, x < v -> hid s x = (x =? a)) ->
  exists l3 l4, run HSM v m (init a v) l3 /\ lft (fin (init a v) l3) = a /\
    run HSM hi m' (init v hi) l4 /\ lft (fin (init v hi) l4) = v /\
    fw * (v - a) + r + tot pr l3 + w * tot (stv v) l + tot pr l4 + r * tot (ps hi) l
    <= tot pr l + r * tot (ps v) l3 + r * tot (ps hi) l4.
Proof.
  intros a v hi m m' l l1 l2 R F El Hv Hm Hall s HC HP Hl He HH.
  pose proof R as R0. rewrite El, run_app in R0. destruct R0 as (R1 & R2). fold s in R2.
  assert (F2 : lft (fin s l2) = a) by (unfold s; rewrite <- fin_app, <- El; auto).
  destruct (left_virgin l2 v a m hi s) as (l3 & A1 & A2 & A3 & A4); auto; try lia.
  { unfold s. apply (NI_run l1 m hi); auto. apply NI_init. }
  { intros p Q. rewrite HC in Q. discriminate. }
  destruct (right_run l true v m m' hi (init a hi) (init v hi)) as (l4 & B1 & B2 & B3); auto; try (simpl; lia).
  { apply NI_init. }
  { unfold rel, init, right_hid. simpl. repeat split; auto; intros; inj; try discriminate; try lia.
    - cases.
    - apply Nat.eqb_neq. lia. }
  { rewrite right_room_init; try lia; [simpl; lia | apply HSM_fair]. }
  exists l3, l4. repeat split; auto.
  pose proof (left_pays l1 a v) as LP. pose proof (parts_run l m hi (init a hi) v (NI_init _ _) R) as PR.
  pose proof (segments l1 m hi (init a hi) v (NI_init _ _) R1) as SG.
  unfold low at 2 in SG. simpl in SG. rewrite (proj2 (Nat.ltb_lt a v)) in SG by lia.
  assert (E1 : tot (lc v) l = tot (lc v) l1 + tot (lc v) l2) by (rewrite El; apply tot_app).
  assert (E2 : tot (ps v) l = tot (ps v) l1 + tot (ps v) l2) by (rewrite El; apply tot_app).
  rewrite E2 in B3. rewrite E1 in PR.
  assert (r * tot (ps v) l1 <= r * (tot (lres v) l1 + 1)) by (apply Nat.mul_le_mono_l; lia).
  assert (fw * (v - a) <= fw * ev a v l1) by (apply Nat.mul_le_mono_l; auto).
  assert (r * tot (ps v) l2 <= r * tot (ps v) l3) by (apply Nat.mul_le_mono_l; auto).
  rewrite !Nat.mul_add_distr_l in *. lia.
Qed.

(* stored at a and at most one slot in use below v: nothing else is stored below v *)
Lemma only_start : forall s a v, a < v -> hid s a = true -> sumr (weight HSM (hid s) (int s)) 0 v <= 1 ->
  forall x, x < v -> hid s x = (x =? a).
Proof.
  intros s a v Hv Ha Hs x Hx. destruct (Nat.eqb_spec x a) as [->|N]; auto. destruct (hid s x) eqn:E; auto. exfalso.
  pose proof (sumr_ge2 (weight HSM (hid s) (int s)) 0 a x v ltac:(lia) ltac:(lia) ltac:(lia)) as G.
  unfold weight in G at 1 2. simpl in G. rewrite Ha, E in G. lia.
Qed.
(* what the right part weighs *)
Lemma right_room_is : forall v hi s, v < hi ->
  right_room HSM v hi s = 1 + sumr (fun x => if (x <? hi) && hid s x then 1 else 0) (S v) (S hi).
Proof.
  intros v hi s Hv. unfold right_room. rewrite (sumr_at _ 0 v (S hi)) by lia. rewrite sumr_zero.
  - unfold weight at 1, right_hid. simpl. rewrite Nat.eqb_refl. simpl. f_equal. apply sumr_ext. intros x Hx.
    unfold weight, right_hid. simpl. rewrite (proj2 (Nat.eqb_neq x v)), (proj2 (Nat.ltb_lt v x)) by lia. auto.
  - intros x Hx. unfold weight, right_hid. simpl. rewrite (proj2 (Nat.eqb_neq x v)), (proj2 (Nat.ltb_ge v x)) by lia. auto.
Qed.

Lemma neat_fin : forall l s, neat s -> (forall x s1, In (x, s1) l -> neat s1) -> neat (fin s l).
Proof. induction l as [|[x s1] l IH]; simpl; intros; auto. apply IH; eauto. Qed.
Lemma fin_in : forall (l : trace) s, l = [] \/ exists x, In (x, fin s l) l.
Proof. induction l as [|[x s1] l IH]; simpl; intros; auto. right. destruct (IH s1) as [->|(y & H)]; simpl; eauto. Qed.

Theorem priced_lower : forall m, 1 <= m -> forall k a l, 1 <= k ->
  run HSM (a + k) m (init a (a + k)) l -> lft (fin (init a (a + k)) l) = a ->
  exists p, plan m k p /\ p + r * tot (ps (a + k)) l <= tot pr l.
Proof.
  pose proof HSM_fair as Fp.
  induction m as [|m' IHm]; intros Hm k; [lia|]. set (m := S m') in *.
  induction k as [k IHk] using lt_wf_ind. intros a l0 Hk R0 F0. remember (a + k) as hi eqn:Ehi.
  (* drop what no step needs *)
  assert (C0 : Cl false (init a hi) (init a hi)).
  { unfold Cl, init. simpl. repeat split; auto; intros; try discriminate. destruct (Nat.eqb_spec x a); auto.
    subst x. rewrite (proj2 (Nat.ltb_lt a hi)) by lia. auto. }
  assert (Rm : room HSM hi (init a hi) <= m).
  { rewrite room_sumr, (sumr_at _ 0 a (S hi)) by lia. rewrite !sumr_zero.
    - unfold weight, init. simpl. rewrite Nat.eqb_refl. unfold m. lia.
    - intros x Hx. unfold weight, init. simpl. rewrite (proj2 (Nat.eqb_neq x a)) by lia. auto.
    - intros x Hx. unfold weight, init. simpl. rewrite (proj2 (Nat.eqb_neq x a)) by lia. auto. }
  destruct (clean l0 false m hi (init a hi) (init a hi) (NI_init _ _) R0 C0 Rm) as (l & lost & R & CF & Nt & E0).
  assert (F : lft (fin (init a hi) l) = a) by (destruct CF as (CF & _); lia).
  unfold cr in E0. rewrite Nat.add_0_r in E0.
  cut (exists p, plan m k p /\ p + r * tot (ps hi) l <= tot pr l).
  { intros (p & P1 & P2). exists p. split; auto. lia. }
  clear l0 R0 F0 C0 Rm CF E0 lost.
  destruct (Nat.eq_dec k 1) as [->|Hk1].
  { exists (fw * 1 + 0 + 0). split. { apply (p_last m 0 0); [unfold m; lia | constructor]. }
    assert (hi = S a) by lia. subst hi. rewrite H in *. pose proof (one_step a m l R F). lia. }
  assert (L1 : forall v l3, a < v < hi -> run HSM v m (init a v) l3 -> lft (fin (init a v) l3) = a ->
    exists p, plan m (v - a) p /\ p + r * tot (ps v) l3 <= tot pr l3).
  { intros v l3 Hv R3 F3. assert (Ev : v = a + (v - a)) by lia. rewrite Ev in R3, F3 |- *.
    replace (a + (v - a) - a) with (v - a) by lia. apply IHk; auto; lia. }
  destruct (Nat.eq_dec m' 0) as [Hm1|Hm1].
  { (* one slot *)
    set (v := hi - 1).
    destruct (first_bwd l HSM m hi (init a hi) R) as (k1 & x & l2 & s1 & El & B1 & B2 & B3 & B4). { rewrite F. simpl. lia. }
    simpl in B1. pose proof R as R1. rewrite El, run_app in R1. destruct R1 as (R1 & _). pose proof R1 as R2.
    rewrite run_app in R2. destruct R2 as (R2 & _ & C1 & _).
    assert (Fs : fin (init a hi) (k1 ++ [(x, s1)]) = s1) by (rewrite fin_app; reflexivity).
    assert (Ev : v - a <= ev a v (k1 ++ [(x, s1)])).
    { rewrite ev_app. assert (IV : Inv a v (0 + ev a v k1) (fin (init a hi) k1)) by (eapply Inv_run; eauto; apply Inv_init).
      destruct IV as (_ & _ & C & D). destruct (D _ B2) as (D1 & D2). apply C in D1. unfold v in *. lia. }
    destruct (at_instant HSM m a hi l (k1 ++ [(x, s1)]) l2 R F El) as (_ & _ & _ & _ & St). rewrite Fs in St.
    assert (NS : NI s1). { rewrite <- Fs. exact (NI_run _ m hi _ (NI_init _ _) R1). }
    assert (Ha : hid s1 a = true).
    { destruct St as [A|A]; auto; try lia. { intros q Q. rewrite B3 in Q. discriminate. } rewrite NS in A. discriminate. }
    destruct (compose a v hi m 1 l (k1 ++ [(x, s1)]) l2 R F El) as (l3 & l4 & A1 & A2 & A3 & A4 & A5); try (unfold v; lia).
    { intros y s2 Q _. assert (N2 : NI s2) by exact (NI_in l m hi (init a hi) (NI_init _ _) R y s2 Q). unfold v.
      rewrite right_room_last; auto; lia. }
    { now rewrite Fs. }
    { rewrite Fs, B3. discriminate. }
    { rewrite Fs. unfold v. lia. }
    { auto. }
    { rewrite Fs. apply only_start; auto; [unfold v; lia|].
      rewrite room_sumr, (sumr_split _ 0 v (S hi)) in C1 by (unfold v; lia). unfold m in C1. lia. }
    destruct (L1 v l3 ltac:(unfold v; lia) A1 A2) as (p1 & P1 & P2).
    assert (Eh : hi = S v) by (unfold v; lia).
    assert (O : fw + r * tot (ps hi) l4 <= tot pr l4).
    { rewrite Eh in A3, A4 |- *. apply (one_step v 1); auto. }
    exists (fw * S (k - 1) + (if k - 1 =? 0 then 0 else r) + p1). split.
    - replace k with (S (k - 1)) at 1 by lia. apply p_last; [unfold m; lia|]. replace (k - 1) with (v - a) by (unfold v; lia). auto.
    - rewrite (proj2 (Nat.eqb_neq (k - 1) 0)) by lia. replace (v - a) with (k - 1) in A5 by (unfold v; lia).
      rewrite Nat.mul_succ_r. lia. }
  destruct (where_cut HSM m m' a hi l Fp) as (v & Hv & Hall & Cut); auto; try discriminate; try (simpl; lia); try lia.
  destruct Cut as [->|(k1 & k2 & Ek & Hav & HC & (q & HP & Hq) & Hl & Hev & Hbad & Hsum)].
  { (* one slot is never needed *)
    destruct (right_run l false a m m' hi (init a hi) (init a hi)) as (l4 & B1 & B2 & B3); auto; try (simpl; lia).
    { apply NI_init. }
    { unfold rel, init, right_hid. simpl. repeat split; auto; intros; inj; try discriminate. cases. }
    { rewrite right_room_init; try lia; auto. simpl. lia. }
    rewrite Ehi in B1, B2. destruct (IHm ltac:(lia) k a l4 ltac:(lia) B1 B2) as (p & P1 & P2). rewrite <- Ehi in P2.
    exists p. split. { apply plan_more with m'; auto. unfold m. lia. }
    pose proof (left_pays l a a) as LP. pose proof (parts_run l m hi (init a hi) a (NI_init _ _) R) as PR.
    pose proof (segments l m hi (init a hi) a (NI_init _ _) R) as SG.
    unfold low at 2 in SG. simpl in SG. rewrite Nat.ltb_irrefl in SG.
    assert (r * tot (ps a) l <= r * tot (lres a) l) by (apply Nat.mul_le_mono_l; lia). lia. }
  set (s := fin (init a hi) k1) in *.
  pose proof R as R1. rewrite Ek, run_app in R1. destruct R1 as (R1 & _).
  assert (NS : NI s) by exact (NI_run _ m hi _ (NI_init _ _) R1).
  assert (Ns : neat s).
  { apply neat_fin. { unfold neat, init. simpl. intros y Y. apply Nat.eqb_eq in Y. lia. }
    intros x s1 Q. apply (Nt x). rewrite Ek. apply in_or_app. auto. }
  assert (Hvhi : v < hi).
  { destruct (Nat.eq_dec v hi); [|lia]. subst v. rewrite right_room_last in Hbad; auto; try lia. simpl in Hbad. lia. }
  assert (Hbig : m' < 1 + ((if hid s v then 1 else 0) + sumr (fun x => if (x <? hi) && hid s x then 1 else 0) (S v) (S hi))).
  { rewrite right_room_is in Hbad by lia. replace (S (v - 1)) with v in Hbad by lia.
    rewrite (sumr_split _ v (S v) (S hi)), sumr_one in Hbad by lia. rewrite (proj2 (Nat.ltb_lt v hi)) in Hbad by lia. auto. }
  assert (Hlt : v < lft s).
  { destruct (Nat.eq_dec v (lft s)); [|lia]. exfalso.
    assert (Z : forall x, v <= x -> hid s x = false).
    { intros x Hx. destruct (hid s x) eqn:E; auto. apply Ns in E. lia. }
    rewrite Z, sumr_zero in Hbig by (intros; rewrite ?Z; try lia; now rewrite andb_false_r). lia. }
  assert (Hs : right_room HSM v hi s <= m').
  { destruct (fin_in k1 (init a hi)) as [->|(x & Q)].
    - exfalso. unfold s in HP. simpl in HP. inj. lia.
    - apply (Hall x); auto. rewrite Ek. apply in_or_app. auto. }
  assert (Hst : hid s v = true).
  { destruct (hid s v) eqn:E; auto. rewrite right_room_is in Hs by lia. lia. }
  assert (SV : 1 <= tot (stv v) l).
  { rewrite Ek, tot_app. assert (1 <= tot (stv v) k1); [|lia]. eapply was_stored; eauto. simpl. apply Nat.eqb_neq. lia. }
  destruct (at_instant HSM m a hi l k1 k2 R F Ek) as (_ & _ & _ & _ & St). fold s in St.
  assert (Ha : hid s a = true).
  { destruct St as [A|A]; auto; try lia. { intros y Q. rewrite HP in Q. inj. lia. } rewrite NS in A. discriminate. }
  destruct (compose a v hi m m' l k1 k2 R F Ek) as (l3 & l4 & A1 & A2 & A3 & A4 & A5); auto; try lia.
  { fold s. intros y Q. rewrite HP in Q. inj. lia. }
  { fold s. apply only_start; auto. simpl in Hsum. unfold m in Hsum. lia. }
  destruct (L1 v l3 ltac:(lia) A1 A2) as (p1 & P1 & P2).
  assert (R4 : exists p, plan m' (hi - v) p /\ p + r * tot (ps hi) l4 <= tot pr l4).
  { assert (Eh : hi = v + (hi - v)) by lia. rewrite Eh in A3, A4 |- *.
    replace (v + (hi - v) - v) with (hi - v) by lia. apply IHm; auto; lia. }
  destruct R4 as (p2 & P3 & P4).
  exists (fw * (v - a) + r + p1 + (w + p2)). split.
  - apply p_cut; [unfold m; lia | lia | | exact P1].
    replace (m - 1) with m' by (unfold m; lia). replace (k - (v - a)) with (hi - v) by lia. exact P3.
  - assert (w * 1 <= w * tot (stv v) l) by (apply Nat.mul_le_mono_l; auto). lia.
Qed.
End Priced.
