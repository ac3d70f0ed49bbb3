(* The same for policies that are a state late (Deferred.v): state t - 1 is stored while the machine is there, once step
   t - 1 is known not to be the last. *)
From Membptt Require Import Laws Projection Cut Reach Values Hsm Ism Closed Online Restart RestartCost Anypol Deferred
  Real.
Local Notation room := (room HSM).

(* the actions on the way, before the end is known *)
Fixpoint lroad {m} (P : delayed_policy m) t : list act := match t with 0 => [] | S t' => match t' with 0 => [] | _ =>
  lroad P t' ++ map DropHidden (drops (dheld P t') (dheld P t)) ++
  (if inb (t' - 1) (dheld P t) && negb (inb (t' - 1) (dheld P t')) then [StoreHidden (t' - 1)] else []) ++
  Advance (t' - 1) t' :: (if inb t' (dheld P t) then [StoreHidden t'] else []) end end.

(* store where the machine is, or not *)
Lemma store_run : forall (c : bool) x h i T m, (c = true -> h x = false) ->
  room T (mk (Some x) None (if c then add h x else h) i T) <= m -> x <= T ->
  exists l, run HSM T m (mk (Some x) None h i T) l /\ map fst l = (if c then [StoreHidden x] else []) /\
    Machine.fin (mk (Some x) None h i T) l = mk (Some x) None (if c then add h x else h) i T.
Proof.
  intros [] x h i T m H R X.
  - exists [(StoreHidden x, mk (Some x) None (add h x) i T)]. cbn. repeat split; auto. constructor; auto.
  - exists []. cbn. auto.
Qed.
(* drops cost nothing *)
Lemma cost_none : forall D, cost (map DropHidden D) = 0.
Proof. induction D; cbn [map cost span snd fst]; lia. Qed.
(* nor does a store *)
Lemma cost_if : forall (c : bool) x, cost (if c then [StoreHidden x] else []) = 0. Proof. intros []; reflexivity. Qed.

(* the way is a legal beginning, and leaves what the policy holds *)
Lemma lroad_ok : forall m (P : delayed_policy m) T t, 1 <= t <= T -> exists l, run HSM T m (init 0 T) l /\
  map fst l = lroad P t /\
  On T t (Machine.fin (init 0 T) l) (dheld P t) /\ cost (lroad P t) = t - 1.
Proof.
  intros m P T t. induction t as [|t IH]; intros Ht; [lia|]. destruct (Nat.eq_dec t 0) as [->|Hz].
  - exists []. cbn. repeat split; auto. intros Q. apply Nat.eqb_eq in Q; auto.
    intros [->|I]; auto. pose proof (dpassed m P 1 x ltac:(lia) I). lia.
  - destruct (IH ltac:(lia)) as (l & A & B & (C1 & C2 & C3 & C4 & C5) & D).
    remember (Machine.fin (init 0 T) l) as s eqn:Es. destruct s as [w k h i n]. cbn [pos core lft int hid] in *.
    subst w k n.
    set (s1 := mk (Some (t - 1)) None h i T). set (H := dheld P t) in *. set (K := dheld P (S t)).
    assert (FH : S (length H) <= m) by (apply (dfits m P t); lia).
    assert (FK : S (length K) <= m) by (apply (dfits m P (S t)); lia).
    assert (PH : forall x, In x H -> 0 < x < t) by (intros x I; apply (dpassed m P t x); auto; lia).
    assert (PK : forall x, In x K -> 0 < x < S t) by (intros x I; apply (dpassed m P (S t) x); auto; lia).
    assert (OK : forall x, In x K -> x = t \/ S x = t \/ In x H) by (intros x I; apply (donly m P t x); auto; lia).
    assert (R1 : room T s1 <= m). { pose proof (stored_room T s1 H C5). lia. }
    destruct (drop_run (drops H K) s1 T m) as (l1 & A1 & B1 & G1 & G2 & G3 & G4 & G5); auto.
    { unfold drops. apply NoDup_filter, NoDup_nodup. }
    { intros x I. apply drops_in in I. destruct I as (I & _). split; [apply C5; auto|]. specialize (PH x I). lia. }
    remember (Machine.fin s1 l1) as s2 eqn:E2. destruct s2 as [w2 k2 h2 i2 n2]. cbn [pos core lft int hid s1] in *.
    subst w2 k2 n2 i2.
    assert (K2 : forall x, h2 x = true <-> x = 0 \/ In x H /\ In x K).
    { intros x. rewrite G5, C5, drops_in. destruct (in_dec Nat.eq_dec x K); [tauto|].
      split; [|intros [->|(_ & Q)]; [|tauto]]. intros ([->|I] & Q); auto. exfalso. tauto.
      split; auto. intros (Q & _). specialize (PH 0 Q). lia. }
    (* store state t - 1, or not *)
    set (c := inb (t - 1) K && negb (inb (t - 1) H)).
    set (h3 := if c then add h2 (t - 1) else h2).
    assert (Cc : c = true <-> In (t - 1) K /\ ~ In (t - 1) H).
    { unfold c. rewrite andb_true_iff, negb_true_iff, inb_in. rewrite <- (inb_in (t - 1) H). destruct (inb (t - 1) H);
      split; intros (X & Y); split; auto; congruence. }
    assert (K3 : forall x, h3 x = true <-> x = 0 \/ (In x H \/ S x = t) /\ In x K).
    { intros x. unfold h3. destruct c eqn:Ec.
      - destruct (proj1 Cc eq_refl) as (Y1 & Y2). unfold add. destruct (Nat.eqb_spec x (t - 1)) as [->|].
        + split; auto. intros _. right. split; auto. right. lia.
        + rewrite K2. split; [tauto|]. intros [->|([Q|Q] & R)]; auto. lia.
      - rewrite K2. split; [tauto|]. intros [->|([Q|Q] & R)]; auto. right. split; auto.
        destruct (in_dec Nat.eq_dec x H); auto. exfalso. assert (x = t - 1) by lia. subst x.
        assert (false = true) by (apply Cc; auto). discriminate. }
    assert (R3 : forall p k n, room T (mk p k h3 i n) <= m).
    { intros p k n. rewrite room_count. cbn [hid]. eapply Nat.le_trans; [apply (sumr_list h3 (0 :: K))|simpl; lia].
      intros x _ Q. apply K3 in Q. destruct Q as [->|(_ & Q)]; [left|right]; auto. }
    destruct (store_run c (t - 1) h2 i T m) as (l3 & A3 & B3 & F3); [| apply R3 | lia |].
    { intros Ec. destruct (h2 (t - 1)) eqn:Q; auto. apply K2 in Q. apply Cc in Ec. destruct Q as [Q|Q]; [|tauto].
      destruct Ec as (Ec & _). specialize (PK _ Ec). lia. }
    fold h3 in F3.
    (* go on *)
    set (d := inb t K). set (h5 := if d then add h3 t else h3).
    assert (K5 : forall x, h5 x = true <-> x = 0 \/ In x K).
    { intros x. unfold h5. destruct d eqn:Ed; unfold d in Ed.
      - apply inb_in in Ed. unfold add. destruct (Nat.eqb_spec x t) as [->|]; [tauto|]. rewrite K3. split; [tauto|].
        intros [->|Q]; auto. destruct (OK x Q) as [->|[E|E]]; auto; tauto.
      - assert (~ In t K) by (intros Q; apply inb_in in Q; congruence). rewrite K3. split; [tauto|].
        intros [->|Q]; auto. destruct (OK x Q) as [->|[E|E]]; auto; tauto. }
    assert (R5 : forall p k n, room T (mk p k h5 i n) <= m).
    { intros p k n. rewrite room_count. cbn [hid]. eapply Nat.le_trans; [apply (sumr_list h5 (0 :: K))|simpl; lia].
      intros x _ Q. apply K5 in Q. destruct Q as [->|Q]; [left|right]; auto. }
    destruct (store_run d t h3 i T m) as (l5 & A5 & B5 & F5); [| apply R5 | lia |].
    { intros Ed. destruct (h3 t) eqn:Q; auto. apply K3 in Q. destruct Q as [Q|([Q|Q] & _)];
      [lia| |lia]. specialize (PH _ Q). lia. }
    fold h5 in F5.
    assert (Ro : lroad P (S t) = lroad P t ++ map DropHidden (drops H K) ++ (if c then [StoreHidden (t - 1)] else []) ++
                 Advance (t - 1) t :: (if d then [StoreHidden t] else [])).
                 { unfold c, d, H, K. destruct t; [lia|]. reflexivity. }
    exists (l ++ l1 ++ l3 ++ (Advance (t - 1) t, mk (Some t) None h3 i T) :: l5).
    rewrite !fin_app, <- Es. fold s1. rewrite <- E2, F3. cbn [Machine.fin]. rewrite F5.
    split. { rewrite run_app, <- Es. split; auto. rewrite run_app. fold s1. rewrite <- E2. split;
      auto. rewrite run_app, F3. split; auto.
      cbn [run]. split; [constructor; lia|]. split; auto. }
    split. { rewrite Ro, !map_app. cbn [map fst]. rewrite B, B1, B3, B5. reflexivity. }
    split. { repeat split; cbn [pos hid]; auto; try apply K5. f_equal. lia. }
    rewrite Ro, !cost_app. cbn [cost span fst snd]. rewrite cost_none, !cost_if, D. lia.
Qed.

(* for every policy and every end there is a complete schedule of that cost that begins with the road *)
Theorem late_real : forall m (P : delayed_policy m) t, 1 <= t ->
  (exists more, lroad P (S t) = lroad P t ++ more) /\
  exists rest, complete HSM m t (lroad P t ++ rest) = true /\ cost (lroad P t ++ rest) = donline P t.
Proof.
  intros m P t Ht. split. { destruct t; [lia|]. eexists. reflexivity. }
  destruct (lroad_ok m P t t ltac:(lia)) as (l & A & B & C & D). apply (completed m t _ l (dheld P t)); auto.
  exact (dfits m P t Ht). exact (dused_fits m P t Ht). exact (din_order m P t Ht). exact (dof_held m P t Ht).
  intros x. exact (dpassed m P t x Ht).
Qed.
