(* The last steps of a priced schedule, as a schedule of their own in which v is kept and read only at a pass. *)
From Membptt Require Import Laws Policies Projection Cut Hsm PricedCost.

Section Priced.
Context {c : prices}.
Notation fw := (forward c). Notation w := (write c). Notation r := (read c).

(* s' is s for the steps from v on, with v stored; fresh: v was not reached yet, and s' is there *)
Definition rel (fresh : bool) v hi s s' :=
  lft s' = lft s /\ (forall x, hid s' x = right_hid v hi (hid s) x) /\ NI s' /\
  (forall q, core s = None -> pos s = Some q -> v <= q -> q < hi -> pos s' = Some q) /\
  core s' = match core s with Some p => if v <=? p then Some p else None | None => None end /\
  (fresh = true -> pos s' = Some v /\ (forall q, v <= q -> hid s q = false) /\
     (forall q, core s = None -> pos s = Some q -> q < v) /\ (forall p, core s = Some p -> p < v)).

(* it takes the slots of the right part *)
Lemma rel_room : forall fresh v hi s s', NI s -> rel fresh v hi s s' -> room HSM hi s' = right_room HSM v hi s.
Proof.
  intros fresh v hi s s' N (_ & A & B & _). rewrite room_sumr. unfold right_room. apply sumr_ext. intros x _.
  unfold weight. simpl. now rewrite A.
Qed.

Ltac nofresh f := destruct f; [exfalso; match goal with H : true = true ->
  _ |- _ => destruct (H eq_refl) as (? & ? & ? & ?) end|].

(* a run of the whole is one of the last steps, at no more than their cost and a read for each pass at v *)
Lemma right_run : forall l fresh v m m' hi s s', NI s -> run HSM hi m s l -> rel fresh v hi s s' -> v < hi ->
  v < lft s ->
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
    assert (fresh = false). { destruct fresh;
      auto. destruct (L6 eq_refl) as (_ & _ & _ & K). specialize (K _ eq_refl). lia. }
    subst fresh. exists [(Backpropagate v, mk None None h' i' v)]. simpl.
    rewrite (proj2 (Nat.leb_le v v)) in * by lia. repeat split; auto.
    - constructor.
    - unfold room in *. simpl in *. lia.
    - rewrite !Nat.mul_0_r. unfold mid in SR at 2. simpl in SR.
      assert (r * tot (ps hi) l <= r * (tot (rres v) l + tot (ps v) l)) by (apply Nat.mul_le_mono_l; lia). lia. }
  assert (Hr1 : right_room HSM v hi s1 <= m') by (eapply Hall; [left; reflexivity | auto]).
  assert (Hall1 : forall x0 s2, In (x0, s2) l -> v < lft s2 -> right_room HSM v hi s2 <= m') by (intros; eapply Hall;
    eauto; right; eauto).
  assert (STEP : exists l0 s1' f1, run HSM hi m' s' l0 /\ fin s' l0 = s1' /\ rel f1 v hi s1 s1' /\
    tot pr l0 + (if fresh then r else 0) + w * stv v x + r * ps hi x <= rc v x + r * ps v x + r * tot (ps hi) l0 + (if
      f1 then r else 0)).
  { clear IH Hall Hall1 R Hf. destruct s' as [w' c' h' i' n'].
    assert (RM : forall a b d, room HSM hi (mk a b h' i' d) <= m') by (intros; unfold room in *; simpl in *; lia).
    (* nothing to do *)
    assert (SKIP : forall f1, rel f1 v hi s1 (mk w' c' h' i' n') ->
      (if fresh then r else 0) + w * stv v x + r * ps hi x <= rc v x + r * ps v x + (if f1 then r else 0) ->
      exists l0 s1' f2, run HSM hi m' (mk w' c' h' i' n') l0 /\ fin (mk w' c' h' i' n') l0 = s1' /\
        rel f2 v hi s1 s1' /\
        tot pr l0 + (if fresh then r else 0) + w * stv v x + r * ps hi x <= rc v x + r * ps v x + r * tot (ps hi) l0 +
          (if f2 then r else 0)).
    { intros f1 F1 F2. exists [], (mk w' c' h' i' n'), f1. split; [exact I|]. split; [reflexivity|]. split;
      [exact F1|]. simpl. lia. }
    (* one action, once v was reached *)
    assert (ONE : forall x' s1', fresh = false -> step HSM hi (mk w' c' h' i' n') x' s1' -> rel false v hi s1 s1' ->
      pr x' + w * stv v x + r * ps hi x <= rc v x + r * ps v x + r * ps hi x' ->
      exists l0 s1' f2, run HSM hi m' (mk w' c' h' i' n') l0 /\ fin (mk w' c' h' i' n') l0 = s1' /\
        rel f2 v hi s1 s1' /\
        tot pr l0 + (if fresh then r else 0) + w * stv v x + r * ps hi x <= rc v x + r * ps v x + r * tot (ps hi) l0 +
          (if f2 then r else 0)).
    { intros x' s1' -> F0 F1 F2. exists [(x', s1')], s1', false. split; [|split; [reflexivity|]; split; [exact F1|];
      simpl; rewrite !Nat.add_0_r; exact F2].
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
        { destruct fresh; auto. destruct (L6 eq_refl) as (_ & _ & K & _). specialize (K _ eq_refl eq_refl). lia.
            } subst fresh.
        rewrite (L4 p) in * by (auto; lia). eapply (ONE (Advance p q)); auto.
        - subst. constructor; auto.
        - unfold rel. simpl. repeat split; auto; intros; discriminate.
        - simpl. replace (Nat.max p v) with p by lia. lia. }
      destruct (le_lt_dec v q) as [Hq|Hq].
      2: { apply (SKIP fresh).
        - unfold rel. simpl. repeat split; auto; intros; try (match goal with E : fresh = true |- _ => destruct (L6 E)
            as (K1 & K2 & K3 & K4) end); inj; try lia; try discriminate; auto.
        - simpl. replace (q - Nat.max p v) with 0 by lia. rewrite (proj2 (Nat.leb_gt v q)),
            (proj2 (Nat.leb_gt hi q)) by lia.
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
        * exists [(Restore v, mk (Some v) None h' i' n'); (Advance v q, mk (Some q) None h' i' n')],
            (mk (Some q) None h' i' n'), false.
          split; [|split; [reflexivity|]; split; [auto|]].
          { split; [subst; constructor; auto|]. split; [apply RM|]. split; [constructor; lia|]. split;
              [apply RM | exact I]. }
          change (tot pr [(Restore v, mk (Some v) None h' i' n'); (Advance v q,
            mk (Some q) None h' i' n')]) with (r + (fw * (q - v) + 0)).
          change (tot (ps hi) [(Restore v, mk (Some v) None h' i' n'); (Advance v q,
            mk (Some q) None h' i' n')]) with (ps hi (Advance v q) + 0).
          rewrite E1, E2, E3. simpl. rewrite (proj2 (Nat.ltb_lt v hi)) by lia. simpl. lia.
    - (* record *) destruct (Nat.leb_spec v p).
      + assert (fresh = false).
        { destruct fresh; auto. destruct (L6 eq_refl) as (_ & _ & K & _). specialize (K _ eq_refl eq_refl). lia.
            } subst fresh.
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
        * unfold rel. simpl. repeat split; auto; intros; try (match goal with E : fresh = true |- _ => destruct (L6 E)
            as (K1 & K2 & K3 & K4) end); inj; try discriminate; auto.
          { rewrite L2. unfold right_hid, add. destruct (Nat.eqb_spec x q); auto. subst.
            rewrite (proj2 (Nat.ltb_ge v q)) by lia. auto. }
          { specialize (K3 _ eq_refl eq_refl). unfold add. rewrite (proj2 (Nat.eqb_neq q0 q)) by lia. auto. }
        * simpl. rewrite !Nat.mul_0_r. destruct (Nat.eqb_spec q v), (Nat.ltb_spec q v); lia.
      + assert (fresh = false).
        { destruct fresh; auto. destruct (L6 eq_refl) as (_ & _ & K & _). specialize (K _ eq_refl eq_refl). lia.
            } subst fresh.
        apply (SKIP false).
        * unfold rel. simpl. repeat split; auto; intros; inj; try discriminate.
          rewrite L2. unfold right_hid, add. destruct (Nat.eqb_spec x q); auto. subst.
          rewrite (proj2 (Nat.ltb_ge q hi)) by lia. now rewrite !andb_false_r.
        * simpl. rewrite !Nat.mul_0_r. destruct (Nat.eqb_spec q v), (Nat.ltb_spec q v); lia.
      + assert (fresh = false).
        { destruct fresh; auto. destruct (L6 eq_refl) as (_ & _ & K & _). specialize (K _ eq_refl eq_refl). lia.
            } subst fresh.
        rewrite (L4 q) in * by (auto; lia). eapply (ONE (StoreHidden q)); auto.
        * subst. constructor; auto. rewrite L2. unfold right_hid. rewrite (proj2 (Nat.eqb_neq q v)), H0 by lia.
          now rewrite andb_false_r.
        * unfold rel. simpl. repeat split; auto; intros; inj; try discriminate.
          unfold add at 1. rewrite L2. unfold right_hid, add. destruct (Nat.eqb_spec x q); auto. subst.
          rewrite (proj2 (Nat.ltb_lt q hi)), (proj2 (Nat.ltb_lt v q)) by lia. simpl. now rewrite orb_true_r.
        * simpl. rewrite !Nat.mul_0_r. destruct (Nat.eqb_spec q v), (Nat.ltb_spec q v); lia.
    - (* restore *) destruct (le_lt_dec v q) as [Hq|Hq].
      2: { apply (SKIP fresh).
        - unfold rel. simpl. repeat split; auto; intros; try (match goal with E : fresh = true |- _ => destruct (L6 E)
            as (K1 & K2 & K3 & K4) end); inj; try lia; try discriminate; auto.
        - simpl. rewrite !Nat.mul_0_r. lia. }
      assert (Hh : h q = true).
      { unfold available in H. simpl in H. apply orb_prop in H. destruct H as [H|H]; [|discriminate].
        apply orb_prop in H. destruct H as [H|H]; auto. destruct q; simpl in H; [discriminate|]. rewrite N in H.
        discriminate. }
      assert (fresh = false).
      { destruct fresh; auto. destruct (L6 eq_refl) as (_ & K & _). rewrite (K q) in Hh by
        auto. discriminate. } subst fresh.
      destruct (le_lt_dec hi q) as [Hq'|Hq'].
      + apply (SKIP false).
        * unfold rel. simpl. repeat split; auto; intros; inj; try lia; try discriminate.
        * simpl. rewrite !Nat.mul_0_r. lia.
      + eapply (ONE (Restore q)); auto.
        * subst. constructor. unfold available. rewrite L2. unfold right_hid.
          rewrite Hh, (proj2 (Nat.ltb_lt q hi)) by lia.
          destruct (Nat.eqb_spec q v); simpl; auto. rewrite (proj2 (Nat.ltb_lt v q)) by lia. auto.
        * unfold rel. simpl. repeat split; auto; intros; inj; try discriminate; auto.
        * simpl. rewrite (proj2 (Nat.ltb_ge q v)) by lia. lia.
    - (* drop *) assert (K2' : fresh = true -> q < v).
      { intros E. destruct (L6 E) as (_ & K & _). destruct (le_lt_dec v q); auto. rewrite K in H0 by
        auto. discriminate. }
      destruct (le_lt_dec q v) as [Hq|Hq]; [|destruct (le_lt_dec hi q) as [Hq'|Hq']].
      + apply (SKIP fresh); [|simpl; rewrite !Nat.mul_0_r; lia].
        unfold rel. simpl. repeat split; auto; intros; try (match goal with E : fresh = true |- _ => destruct (L6 E) as
          (K1 & K2 & K3 & K4) end); inj; try discriminate; auto.
        { rewrite L2. unfold right_hid, del. destruct (Nat.eqb_spec x q); auto. subst.
          rewrite (proj2 (Nat.ltb_ge v q)) by lia. auto. }
        { unfold del. rewrite K2 by auto. destruct (q0 =? q); auto. }
      + apply (SKIP fresh); [|simpl; rewrite !Nat.mul_0_r; lia].
        unfold rel. simpl. repeat split; auto; intros; try (match goal with E : fresh = true |- _ => destruct (L6 E) as
          (K1 & K2 & K3 & K4) end); inj; try discriminate; auto.
        { rewrite L2. unfold right_hid, del. destruct (Nat.eqb_spec x q); auto. subst.
          rewrite (proj2 (Nat.ltb_ge q hi)) by lia. now rewrite !andb_false_r. }
        { unfold del. rewrite K2 by auto. destruct (q0 =? q); auto. }
      + assert (fresh = false). { destruct fresh; auto. specialize (K2' eq_refl). lia. } subst fresh.
        eapply (ONE (DropHidden q)); auto.
        * subst. constructor; auto. rewrite L2. unfold right_hid.
          rewrite H0, (proj2 (Nat.ltb_lt v q)), (proj2 (Nat.ltb_lt q hi)) by lia.
          now rewrite orb_true_r.
        * unfold rel. simpl. repeat split; auto; intros; inj; try discriminate.
          unfold del at 1. rewrite L2. unfold right_hid, del. destruct (Nat.eqb_spec x q); auto. subst.
          rewrite (proj2 (Nat.eqb_neq q v)) by lia. simpl. now rewrite !andb_false_r.
        * simpl. rewrite !Nat.mul_0_r. lia. }
  destruct STEP as (l0 & s1' & f1 & R0 & F0 & L' & E).
  destruct (IH f1 v m m' hi s1 s1' N1 R L' Hv Hd Hf Hr1 Hall1) as (l' & R' & F' & E').
  exists (l0 ++ l'). rewrite run_app, fin_app, F0, !tot_app. repeat split; auto. simpl.
  rewrite !Nat.mul_add_distr_l in *. lia.
Qed.
End Priced.
