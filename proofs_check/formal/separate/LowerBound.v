(* Every run of the walk costs at least V, for any V that obeys the Bellman inequalities of MSM+. V false t m is P(t,
   m): the start may be dropped.  V true t m is R(t, m): the start is held.  m counts the start. *)
From Membptt Require Import Walk Project.

Section LowerBound.
Context {size : Size}.
Variable V : bool -> nat -> nat -> nat.
Hypothesis V_none : forall b m, V b 0 m = 0.
Hypothesis V_one : forall b m, 1 <= m -> V b 1 m <= 1.
Hypothesis V_last : forall b t, V b (S t) 1 <= S t + V b t 1.
Hypothesis V_hidden : forall b t y m, 2 <= m -> 1 <= y < t -> V b t m <= y + V b y m + V false (t - y) (m - 1).
Hypothesis V_less : forall b t m, 2 <= m -> V b t m <= V false t (m - 1).
Hypothesis V_release : forall t m, alpha <= m -> 1 <= t -> V false t m <= 1 + V true (t - 1) (m + 1 - alpha).

(* The start fits in one slot, and all states of a run fit in m; a weight 0 is nothing stored, a weight 1 no internal
   state. *)
Lemma cap_init : forall a m hi, 1 <= m -> a <= hi -> cap m hi (init a hi).
Proof.
  intros. unfold cap, init. simpl. rewrite (room_split _ 0 a (S hi)), (room_split _ a (S a) (S hi)), room_one by lia.
  rewrite (room_zero _ 0 a) by (intros; cases). rewrite (room_zero _ (S a) (S hi)) by (intros; cases). cases.
Qed.
(* within the slots at first, within them at the end *)
Lemma cap_fin : forall l m hi s, run m hi s l -> cap m hi s -> cap m hi (fin s l).
Proof. induction l as [| [e s1] l]; simpl; intros; auto. apply IHl; tauto. Qed.
(* weight 0 is nothing stored *)
Lemma wt_zero : forall k, wt k = 0 -> k = 0.
Proof. pose proof alpha2. intros [|[|k]]; simpl; lia. Qed.
(* weight 1 is no internal state *)
Lemma wt_le_one : forall k, wt k <= 1 -> k <= 1.
Proof. pose proof alpha2. intros [|[|k]]; simpl; lia. Qed.
(* an internal state weighs alpha *)
Lemma wt_two : forall k, 2 <= k -> wt k = alpha.
Proof. intros [|[|k]]; simpl; lia. Qed.
(* Of no steps to the right of the end, everything fits. *)
Lemma allok_top : forall l keep m m' hi s, run m hi s l -> lft s <= hi -> allok keep hi m' hi s l = true.
Proof.
  induction l as [| [e s1] l]; simpl; intros keep m m' hi s R H; unfold ok; apply Nat.leb_le in H as H'; rewrite H';
    simpl; auto.
  destruct R as (T & _ & R). apply lft_step in T. apply IHl with m; auto. lia.
Qed.
(* a property of all states of a trace holds for the last one *)
Lemma Forall_fin : forall l P s, Forall P l -> l <> [] -> exists e, P (e, fin s l).
Proof.
  induction l as [| [e s1] l]; simpl; intros P s F N. congruence. inversion F; subst.
  destruct l as [|x l]. simpl; eauto. apply IHl; auto. discriminate.
Qed.
(* the first backward *)
Lemma first_back : forall l m hi s, run m hi s l -> lft (fin s l) < lft s ->
  exists l1 e l2 s1, l = l1 ++ (e, s1) :: l2 /\ S (lft s1) = lft s /\ cur s1 = None /\ cap m hi s1 /\
    (2 <= lev s1 (lft s) \/ (e = Some (lft s1) /\ cur (fin s l1) = Some (lft s1))).
Proof.
  induction l as [| [e s1] l]; simpl; intros m hi s R H; try lia. destruct R as (T & C & R).
  destruct (Nat.eq_dec (lft s1) (lft s)) as [E|E].
  - destruct (IHl m hi s1 R) as (l1 & e1 & l2 & s2 & A & B & D & F & G). lia.
    exists ((e, s1) :: l1), e1, l2, s2. subst. simpl. rewrite <- E. auto.
  - exists [], e, l, s1. inversion T; subst; simpl in *; try lia; auto 8.
Qed.

(* The bound.  By induction on m, and for one m on the number of runs.  v is the least place whose right part fits in m
   - 1 slots; where it does not at v - 1, the left part starts again from h_a alone, or the start was released. *)
Theorem lower_bound : forall m, 1 <= m -> forall N k a keep l,
  run m (a + k) (init a (a + k)) l -> lft (fin (init a (a + k)) l) <= a -> (keep = true -> Forall (holds a) l) ->
  ev a (a + k) l <= N -> V keep k m <= ev a (a + k) l.
Proof.
  pose proof alpha2 as Ha.
  induction m as [m IHm] using lt_wf_ind. intros Hm. induction N as [N IHN] using lt_wf_ind.
  intros k a keep l R F HK HN. remember (a + k) as hi eqn:Ehi. set (s0 := init a hi) in *.
  destruct (Nat.eq_dec k 0) as [->|Hk]. { rewrite V_none. lia. }
  assert (L0 : lft s0 = hi) by reflexivity.
  assert (C0 : cap m hi s0) by (apply cap_init; lia).
  assert (HI : forall v l1 l2, l = l1 ++ l2 -> Inv a v (ev a v l1) (fin s0 l1) /\ cap m hi (fin s0 l1) /\
    run m hi (fin s0 l1) l2
             /\ lft (fin (fin s0 l1) l2) <= a).
  { intros v k1 k2 ->. rewrite run_app in R. destruct R as (R1 & R2). rewrite fin_app in F.
    split; [|split; [apply cap_fin; auto | auto]]. replace (ev a v k1) with (0 + ev a v k1) by lia.
    eapply Inv_run; eauto. apply Inv_init. }
  assert (Hev : forall l1 l2, l = l1 ++ l2 -> forall x y, ev x y l = ev x y l1 + ev x y l2).
  { intros k1 k2 -> x y. apply ev_app. }
  (* the induction hypothesis for what is left of the left part *)
  assert (Left : forall u l1 l2, l = l1 ++ l2 -> a <= u < hi -> u < lft (fin s0 l1) ->
            (forall x, x <= u -> lev (fin s0 l1) x = if x =? a then 1 else 0) ->
            (forall q, cur (fin s0 l1) = Some q -> u < q) -> (2 <= lev (fin s0 l1) (S u) -> 0 < ev u (S u) l2) ->
            1 <= ev a hi l1 -> V keep (S u - a) m <= ev a (S u) l2).
  { intros u l1 l2 E Hu Hl HS HC HA H1. destruct (HI 0 l1 l2 E) as (_ & _ & R2 & F2).
    destruct (left_part l2 u a m hi (fin s0 l1) R2 Hu Hl F2 HS HC HA) as (l' & R' & F' & E' & K').
    rewrite <- E'. assert (Eu : S u = a + (S u - a)) by lia. rewrite Eu in R', F' |- *.
    replace (a + (S u - a) - a) with (S u - a) by lia. apply IHN with (ev a (a + (S u - a)) l'); auto.
    - rewrite <- Eu, E'. specialize (Hev l1 l2 E a hi). pose proof (ev_cut l2 a (S u) hi). lia.
    - intro K. apply K'. specialize (HK K). rewrite E in HK. apply Forall_app in HK. tauto. }
  (* step a runs *)
  assert (Once : 1 <= ev a (S a) l).
  { destruct (Nat.eq_dec (ev a (S a) l) 0) as [E|E]; [|lia]. exfalso.
    assert (2 <= lev s0 (S a)) by (eapply stay; eauto; lia). revert H. unfold s0. simpl. cases. }
  assert (Split : forall v, a <= v <= hi -> ev a hi l = ev a v l + ev v hi l) by (intros; apply ev_cut; auto).
  destruct (Nat.eq_dec k 1) as [->|Hk1].
  { pose proof (V_one keep m Hm). pose proof (Split (S a)). lia. }
  (* if step a runs in the rest of the run, and the cursor is beyond it, then h_a is stored *)
  assert (Start : forall l1 l2, l = l1 ++ l2 -> (forall q, cur (fin s0 l1) = Some q -> S a <= q) -> 0 < ev a (S a) l2 ->
            1 <= lev (fin s0 l1) a).
  { intros l1 l2 E HC HA. destruct (HI 0 l1 l2 E) as ((A & _) & _ & R2 & _).
    destruct (le_lt_dec 1 (lev (fin s0 l1) a)); auto. exfalso.
    assert (ev a (S a) l2 = 0); [|lia]. eapply no_run; eauto. intros q Q.
    destruct (Nat.eq_dec q a) as [->|N']; [lia|]. apply A in Q. lia. }
  destruct (Nat.eq_dec m 1) as [->|Hm1].
  { (* one slot *)
    destruct (first_back l 1 hi s0 R) as (l1 & e & l2 & s1 & El & B1 & B2 & B3 & B4). lia.
    rewrite L0 in *.
    assert (El' : l = (l1 ++ [(e, s1)]) ++ l2) by (rewrite El, <- app_assoc; reflexivity).
    assert (Es : fin s0 (l1 ++ [(e, s1)]) = s1) by (rewrite fin_app; reflexivity).
    assert (Lv : forall x, x <= hi -> lev s1 x <= 1).
    { intros x Hx. apply wt_le_one. unfold cap in B3. pose proof (room_pt (lev s1) 0 x (S hi)). lia. }
    destruct B4 as [B4|(Ee & B4)]. { specialize (Lv hi). lia. }
    destruct (HI 0 _ _ El') as (_ & _ & R2 & F2). rewrite Es in R2, F2.
    assert (A2 : 0 < ev a (S a) l2).
    { destruct (Nat.eq_dec (ev a (S a) l2) 0) as [E|E]; [|lia]. exfalso.
      assert (2 <= lev s1 (S a)) by (eapply stay; eauto; lia). specialize (Lv (S a)). lia. }
    assert (Ga : 1 <= lev s1 a).
    { rewrite <- Es. apply (Start _ _ El'); auto. rewrite Es, B2. discriminate. }
    assert (K1 : hi - a <= ev a hi (l1 ++ [(e, s1)])).
    { rewrite ev_app. destruct (HI (hi - 1) l1 ((e, s1) :: l2) El) as ((_ & B) & _ & _).
      apply B in B4. pose proof (ev_cut l1 a (hi - 1) hi). subst e. simpl.
      destruct (Nat.leb_spec a (lft s1)), (Nat.ltb_spec (lft s1) hi); simpl; lia. }
    assert (K2 : V keep (S (hi - 2) - a) 1 <= ev a (S (hi - 2)) l2).
    { apply (Left (hi - 2) _ _ El'); rewrite ?Es; try lia.
      - intros x Hx. destruct (Nat.eqb_spec x a) as [->|N'].
        + specialize (Lv a). lia.
        + apply wt_zero. unfold cap in B3. assert (1 <= wt (lev s1 a)) by (apply (wt_mono 1); auto).
          destruct (le_lt_dec x a); [pose proof (room_two (lev s1) 0 x a (S hi))
            | pose proof (room_two (lev s1) 0 a x (S hi))]; lia.
      - rewrite B2. discriminate.
      - specialize (Lv (S (hi - 2))). lia. }
    pose proof (Hev _ _ El' a hi). pose proof (ev_cut l2 a (S (hi - 2)) hi).
    destruct k as [|t]; [lia|]. pose proof (V_last keep t). replace (S (hi - 2) - a) with t in K2 by lia. lia. }
  (* two slots or more *)
  destruct (lowest k (fun v => allok false v (m - 1) hi s0 l) a) as (v & Hv & Hg & Hmin).
  { rewrite <- Ehi. apply allok_top with m; auto. }
  assert (Right : V false (hi - v) (m - 1) <= ev v hi l).
  { destruct (Nat.eq_dec v hi) as [->|Hvh]. { rewrite Nat.sub_diag, V_none. lia. }
    destruct (right_part l a v false m (m - 1) hi R) as (l' & R' & F' & E' & _); auto; try lia.
    assert (V false (hi - v) (m - 1) <= ev v hi l'); [|lia].
    assert (Ev : hi = v + (hi - v)) by lia. rewrite Ev in R', F' |- *. replace (v + (hi - v) - v) with (hi - v) by lia.
    apply (IHm (m - 1)) with (ev v (v + (hi - v)) l'); auto; try lia. }
  destruct Hmin as [->|(Hav & Hbad)].
  { (* one slot is never needed *)
    pose proof (V_less keep k m). replace (hi - a) with k in Right by lia. lia. }
  destruct (not_allok _ _ _ _ _ _ Hbad) as (k1 & k2 & Ek & Hf).
  destruct v as [|u]; [lia|]. replace (S u - 1) with u in * by lia.
  unfold ok in Hf. apply orb_false_iff in Hf. destruct Hf as (Hl & Hc). apply Nat.leb_gt in Hl. apply Nat.leb_gt in Hc.
  unfold again in Hc. simpl in Hc.
  assert (Z0 : room (lev s0) (S u) (S hi) = 0). { apply room_zero. intros x Hx. unfold s0. simpl. cases. }
  assert (R1 : run m hi s0 k1). { rewrite Ek, run_app in R. tauto. }
  pose proof (Split (S u) ltac:(lia)) as Sp.
  (* where the slots from S u on reach c: there the cursor is beyond u, and the steps a .. u have all run *)
  assert (Cross : forall c, 1 <= c -> c <= room (lev (fin s0 k1)) (S u) (S hi) ->
    exists l1 l2, l = l1 ++ l2 /\ ev u (S u) k2 <= ev u (S u) l2 /\ l1 <> [] /\ u < lft (fin s0 l1) /\
      room (lev (fin s0 l1)) 0 (S u) + c <= m /\ (forall q, cur (fin s0 l1) = Some q -> u < q) /\
        S u - a <= ev a (S u) l1).
  { intros c Hc1 Hc2. destruct (crossing k1 s0 m hi (S u) c R1) as (l1 & l1' & E1 & N1 & Q1 & q & Cq & Hq); auto. lia.
    exists l1, (l1' ++ k2). assert (E : l = l1 ++ l1' ++ k2) by (rewrite Ek, E1, app_assoc; auto).
    destruct (HI (S u) _ _ E) as ((_ & B) & C & R2 & _).
    repeat split; auto.
    - rewrite ev_app. lia.
    - rewrite E1, fin_app in Hl. rewrite run_app in R2. destruct R2 as (R2 & _). apply lft_run in R2. lia.
    - unfold cap in C. rewrite (room_split _ 0 (S u) (S hi)) in C by lia. lia.
    - intros q' Q'. rewrite Cq in Q'. inj. lia.
    - apply B in Cq. lia. }
  destruct (Nat.ltb_spec 0 (ev u (S u) k2)) as [HA|HA]; simpl in Hc.
  - (* step u runs again: a hidden cut at S u *)
    destruct (Cross (m - 1)) as (l1 & l2 & E & E2 & N1 & Hlu & Cb & Cc & Hrun); try lia.
    set (s := fin s0 l1) in *. destruct (HI 0 _ _ E) as (_ & _ & R2 & F2).
    assert (A2 : 0 < ev a (S a) l2).
    { destruct (Nat.eq_dec u a) as [<-|Nu]; [lia|].
      destruct (Nat.eq_dec (ev a (S a) l2) 0) as [Z|Z]; [|lia]. exfalso.
      assert (2 <= lev s (S a)) by (eapply stay; eauto; lia).
      pose proof (room_pt (lev s) 0 (S a) (S u)). rewrite (wt_two (lev s (S a))) in H0 by auto. lia. }
    assert (Ga : 1 <= lev s a). { apply (Start _ _ E); auto. intros q Q. apply Cc in Q. lia. }
    assert (Wa : 1 <= wt (lev s a)) by (apply (wt_mono 1); auto).
    assert (K2 : V keep (S u - a) m <= ev a (S u) l2).
    { apply (Left u l1 l2 E); auto; try lia.
      - intros x Hx. fold s. destruct (Nat.eqb_spec x a) as [->|N'].
        + assert (lev s a <= 1); [|lia]. apply wt_le_one. pose proof (room_pt (lev s) 0 a (S u)). lia.
        + apply wt_zero.
          destruct (le_lt_dec x a); [pose proof (room_two (lev s) 0 x a (S u))
            | pose proof (room_two (lev s) 0 a x (S u))]; lia.
      - pose proof (ev_cut l1 a (S u) hi). lia. }
    rewrite (Hev _ _ E a (S u)) in Sp.
    destruct (Nat.eq_dec (S u) hi) as [Eh|Nh].
    + replace (S u - a) with k in K2 by lia. lia.
    + pose proof (V_hidden keep k (S u - a) m). replace (k - (S u - a)) with (hi - S u) in H by lia. lia.
  - (* step u does not run again: nothing is stored below, so u = a and its internal state is stored *)
    destruct (Cross m) as (l1 & l2 & E & E2 & N1 & Hlu & Cb & Cc & Hrun); try lia.
    set (s := fin s0 l1) in *. destruct (HI 0 _ _ E) as ((_ & _) & C & R2 & F2).
    assert (Zl : forall x, x <= u -> lev s x = 0).
    { intros x Hx. apply wt_zero. pose proof (room_pt (lev s) 0 x (S u)). lia. }
    destruct keep.
    { exfalso. specialize (HK eq_refl). rewrite E in HK. apply Forall_app in HK. destruct HK as (HK & _).
      destruct (Forall_fin _ _ s0 HK N1) as (e & He). unfold holds in He. simpl in He. fold s in He.
      rewrite Zl in He by lia. lia. }
    assert (NR : ev a (S u) l2 = 0).
    { apply no_run with m hi s; auto. intros q Q. destruct (le_lt_dec (S u) q); auto. rewrite Zl in Q by lia. lia. }
    assert (Sa : 2 <= lev s (S a)).
    { pose proof (ev_cut l2 a (S a) (S u)). eapply stay; eauto; lia. }
    assert (u = a). { destruct (Nat.eq_dec u a); auto. rewrite Zl in Sa; lia. } subst u.
    destruct (le_lt_dec 2 (ev a (S a) l)) as [H2|H2].
    + (* step a ran twice: as good as a hidden cut at S a *)
      pose proof (V_hidden false k 1 m). pose proof (V_one false m). replace (k - 1) with (hi - S a) in H by lia. lia.
    + (* step a runs once: its internal state stays to the end *)
      assert (Hal : alpha <= m).
      { unfold cap in C. fold s in C. pose proof (room_pt (lev s) 0 (S a) (S hi)).
          rewrite (wt_two (lev s (S a))) in H by auto. lia. }
      assert (Ok : allok true (S a) (m + 1 - alpha) hi s0 l = true).
      { destruct (allok true (S a) (m + 1 - alpha) hi s0 l) eqn:A; auto. exfalso.
        destruct (not_allok _ _ _ _ _ _ A) as (j1 & j2 & Ej & Hj).
        unfold ok in Hj. apply orb_false_iff in Hj. destruct Hj as (Jl & Jc). apply Nat.leb_gt in Jl.
        apply Nat.leb_gt in Jc.
        simpl in Jc. destruct (HI (S a) _ _ Ej) as ((I1 & _) & Cj & Rj & Fj). pose proof (Hev _ _ Ej a (S a)).
        destruct (Nat.eq_dec (ev a (S a) j2) 0) as [Z|Z].
        - assert (2 <= lev (fin s0 j1) (S a)) by (eapply stay; eauto; lia).
          unfold cap in Cj. rewrite (room_split _ 0 (S a) (S hi)), (room_split _ (S a) (S (S a)) (S hi)),
            room_one in Cj by lia.
          rewrite (wt_two _ H0) in Cj. lia.
        - rewrite (room_zero _ (S (S a)) (S hi)) in Jc. lia. intros x Hx.
          destruct (lev (fin s0 j1) x) eqn:Lx; auto. assert (Q : 1 <= lev (fin s0 j1) x) by lia. apply I1 in Q. lia. }
      destruct (right_part l a (S a) true m (m + 1 - alpha) hi R) as (l' & R' & F' & E' & K'); auto; try lia.
      assert (V true (hi - S a) (m + 1 - alpha) <= ev (S a) hi l').
      { assert (Ev : hi = S a + (hi - S a)) by lia. rewrite Ev in R', F' |- *.
          replace (S a + (hi - S a) - S a) with (hi - S a) by lia.
        apply (IHm (m + 1 - alpha)) with (ev (S a) (S a + (hi - S a)) l'); auto; lia. }
      pose proof (V_release k m). replace (k - 1) with (hi - S a) in H0 by lia. lia.
Qed.
End LowerBound.
