(* Where to cut a priced schedule, once it is clean: nothing is stored that no step needs. *)
From Membptt Require Import Laws Policies Projection Cut Hsm PricedCost.

Section Priced.
Context {c : prices}.
Notation fw := (forward c). Notation w := (write c). Notation r := (read c).

(* nothing is stored that no step needs *)
Definition neat s := forall q, hid s q = true -> q < lft s.
(* s' is s without what no step needs; lost: the working state of s is restored from there *)
Definition Cl (lost : bool) s s' := lft s' = lft s /\ (forall x, hid s' x = hid s x && (x <? lft s)) /\ NI s' /\
  (lost = false -> pos s' = pos s /\ core s' = core s) /\
  (lost = true -> core s' = None /\ (forall q, pos s = Some q -> lft s <= q) /\ (forall p, core s = Some p ->
    lft s <= p)).
(* a read is saved where the lost working state is never used *)
Definition cr (lost : bool) hi s := if lost then match core s, pos s with None, Some q => if q <? hi then r else 0
  | _, _ => 0 end else 0.

(* which takes no more slots *)
Lemma Cl_room : forall lost hi s s', Cl lost s s' -> NI s -> room HSM hi s' <= room HSM hi s.
Proof.
  intros lost hi s s' (_ & A & _) N. rewrite !room_sumr. apply sumr_le. intros x _. unfold weight. simpl. rewrite A.
  destruct (hid s x); simpl; [destruct (x <? lft s)|]; lia.
Qed.

(* every run has a clean one at no more cost *)
Lemma clean : forall l lost m hi s s', NI s -> run HSM hi m s l -> Cl lost s s' -> room HSM hi s' <= m ->
  exists l' lost', run HSM hi m s' l' /\ Cl lost' (fin s l) (fin s' l') /\ (forall x s1, In (x, s1) l' -> neat s1) /\
    tot pr l' + r * tot (ps hi) l <= tot pr l + r * tot (ps hi) l' + cr lost hi s.
Proof.
  induction l as [|[x s1] l IH]; intros lost m hi s s' N R L Rm.
  { exists [], lost. split; [exact I|]. split; [exact L|]. split; [intros ? ? []|]. simpl. rewrite !Nat.mul_0_r. lia. }
  destruct R as (T & C & R). pose proof (NI_step _ _ _ _ N T) as N1.
  assert (STEP : exists l0 s1' f1, run HSM hi m s' l0 /\ fin s' l0 = s1' /\ Cl f1 s1 s1' /\
    (forall x s1, In (x, s1) l0 -> neat s1) /\
    tot pr l0 + r * ps hi x + cr f1 hi s1 <= pr x + r * tot (ps hi) l0 + cr lost hi s).
  { clear IH R.
    assert (SKIP : forall f1, Cl f1 s1 s' -> r * ps hi x + cr f1 hi s1 <= pr x + cr lost hi s ->
      exists l0 s1' f1, run HSM hi m s' l0 /\ fin s' l0 = s1' /\ Cl f1 s1 s1' /\
        (forall x s1, In (x, s1) l0 -> neat s1) /\
        tot pr l0 + r * ps hi x + cr f1 hi s1 <= pr x + r * tot (ps hi) l0 + cr lost hi s).
    { intros f1 F1 F2. exists [], s', f1. split; [exact I|]. split; [reflexivity|]. split; [exact F1|].
      split; [intros ? ? []|]. change (tot pr []) with 0. change (tot (ps hi) []) with 0. rewrite Nat.mul_0_r. lia. }
    assert (ONE : forall s1', step HSM hi s' x s1' -> Cl false s1 s1' ->
      exists l0 s1' f1, run HSM hi m s' l0 /\ fin s' l0 = s1' /\ Cl f1 s1 s1' /\
        (forall x s1, In (x, s1) l0 -> neat s1) /\
        tot pr l0 + r * ps hi x + cr f1 hi s1 <= pr x + r * tot (ps hi) l0 + cr lost hi s).
    { intros s1' F0 F1. exists [(x, s1')], s1', false. split.
      { split; [exact F0|]. split; [|exact I]. pose proof (Cl_room _ hi _ _ F1 N1). lia. }
      split; [reflexivity|]. split; [exact F1|]. split.
      { intros y s2 [E|[]]. injection E as <- <-. destruct F1 as (A & B & _). intros q Q. rewrite B in Q. rewrite A.
        apply andb_prop in Q. destruct Q as (_ & Q). now apply Nat.ltb_lt in Q. }
      change (tot pr [(x, s1')]) with (pr x + 0). change (tot (ps hi) [(x, s1')]) with (ps hi x + 0).
      change (cr false hi s1) with 0.
      rewrite !Nat.add_0_r. lia. }
    destruct s' as [w' c' h' i' n']. destruct L as (L1 & L2 & L3 & L4 & L5). unfold NI in N, N1, L3.
    simpl in L1, L2, L3, L4, L5.
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
      + subst n'. exists [(DropHidden p, mk w' (Some p) (del h' p) i' (S p)); (Backpropagate p,
          mk None None (del h' p) i' p)],
          (mk None None (del h' p) i' p), false.
        assert (F1 : Cl false (mk None None h i p) (mk None None (del h' p) i' p)).
        { unfold Cl. simpl. repeat split; auto; intros; try discriminate. unfold del. rewrite L2.
          destruct (Nat.eqb_spec x p). { subst. rewrite Nat.ltb_irrefl. now rewrite andb_false_r. }
          f_equal. destruct (Nat.ltb_spec x (S p)), (Nat.ltb_spec x p); auto; lia. }
        assert (RR : room HSM hi (mk None None (del h' p) i' p) <= m). { pose proof (Cl_room _ hi _ _ F1 N1). lia. }
        split. { split; [constructor; auto|]. split; [unfold room in *; simpl in *; lia|]. split;
          [constructor|]. split; [exact RR | exact I]. }
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
        * split; [exact L1|]; split; [|split; [exact L3|]; split; [exact L4 | exact L5]]. simpl. intros. rewrite L2.
          unfold add.
          destruct (Nat.eqb_spec x q); auto. subst. rewrite (proj2 (Nat.ltb_ge q n)) by lia. now rewrite andb_false_r.
        * unfold cr. simpl. lia.
    - (* restore *)
      assert (Hh : h q = true).
      { unfold available in H. simpl in H. apply orb_prop in H. destruct H as [H|H]; [|discriminate].
        apply orb_prop in H. destruct H as [H|H]; auto. destruct q; simpl in H; [discriminate|]. rewrite N in H.
        discriminate. }
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
          { split; [exact L1|]; split; [|split; [exact L3|]; split; [exact L4
              | exact L5]]. simpl. intros. unfold del. rewrite L2.
            destruct (x =? q); auto. }
          split. { split; [constructor; auto|]. split; [|exact I]. pose proof (Cl_room _ hi _ _ F1 N1). lia. }
          split; [reflexivity|]. split; [exact F1|]. split; [|simpl; lia].
          intros y s2 [Q|[]]. injection Q as <- <-. unfold neat. simpl. intros z Z. apply del_true in Z.
          destruct Z as (_ & Z).
          rewrite L2 in Z. apply andb_prop in Z. destruct Z as (_ & Z). apply Nat.ltb_lt in Z. lia.
        * destruct (L4 eq_refl) as (-> & ->). eapply ONE. { subst n'. constructor; auto. }
          unfold Cl. simpl. repeat split; auto; intros; try discriminate. unfold del. rewrite L2.
          destruct (x =? q); auto.
      + apply (SKIP lost).
        * split; [exact L1|]; split; [|split; [exact L3|]; split; [exact L4 | exact L5]]. simpl. intros. rewrite L2.
          unfold del.
          destruct (Nat.eqb_spec x q); auto. subst. rewrite (proj2 (Nat.ltb_ge q n)) by lia. now rewrite andb_false_r.
        * unfold cr. simpl. lia. }
  destruct STEP as (l0 & s1' & f1 & R0 & F0 & L' & Nt & E).
  assert (Rm1 : room HSM hi s1' <= m). { pose proof (Cl_room _ hi _ _ L' N1). lia. }
  destruct (IH f1 m hi s1 s1' N1 R L' Rm1) as (l' & lost' & R' & F' & Nt' & E').
  exists (l0 ++ l'), lost'. rewrite run_app, fin_app, F0, !tot_app. split; auto. split; auto. split.
  - intros y s2 Q. apply in_app_or in Q. destruct Q; eauto.
  - simpl. rewrite !Nat.mul_add_distr_l in *. lia.
Qed.
End Priced.
