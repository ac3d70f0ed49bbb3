(* With one tier alone, whichever, the recurrence of tiers.py is the least cost over all legal schedules, at all
   prices. *)
From Membptt Require Import Laws Policies Projection Cut Priced.
From Membptt Require Tiers TiersReached.
Import Tiers(Fast, Slow, fs).

(* the prices of tier x *)
Definition conv (c : Tiers.prices) x := Prices (Tiers.forward c) (Tiers.wr c x) (Tiers.rd c x).
(* a state of the two-tier machine, of tier x alone *)
Definition tr x (s : Tiers.st) := mk (Tiers.pos s) (Tiers.core s) (Tiers.held s x) (fun _ => false) (Tiers.lft s).

Ltac tbools := unfold Tiers.guard in *; repeat match goal with
  | H : (if ?b then _ else _) = Some _ |- _ => destruct b eqn:?; [injection H as H; try subst | discriminate]
  | H : _ && _ = true |- _ => apply andb_prop in H; destruct H
  | H : negb _ = true |- _ => apply negb_true_iff in H
  | H : (_ =? _) = true |- _ => apply Nat.eqb_eq in H
  | H : (_ <? _) = true |- _ => apply Nat.ltb_lt in H
  | H : (_ <=? _) = true |- _ => apply Nat.leb_le in H
  | H : Tiers.is ?o _ = true |- _ => destruct o eqn:?; simpl in H; try discriminate
  end.

(* everything is at a position up to hi *)
Definition within hi x s := (forall q, Tiers.pos s = Some q -> q <= hi) /\
  (forall z, Tiers.held s x z = true -> z <= hi).

(* a tier is x or the other *)
Lemma teq_cases : forall x y, y = x \/ y = Tiers.other x.
Proof. intros [] []; auto. Qed.

(* a schedule that has no slots in the other tier is a run of the machine, at the same cost *)
Lemma translate : forall c hi M x l s s1, M (Tiers.other x) = 0 -> Tiers.execute hi M s l = Some s1 ->
  (forall z, Tiers.held s (Tiers.other x) z = false) -> within hi x s ->
  exists r, run HSM hi (M x) (tr x s) r /\ fin (tr x s) r = tr x s1 /\ tot (@pr (conv c x)) r = Tiers.cost c l.
Proof.
  intros c hi M x l. induction l as [|y l IH]; intros s s1 M0 H Z B.
  { simpl in H. injection H as <-. exists []. simpl. auto. }
  simpl in H. destruct (Tiers.exec hi s y) as [s2|] eqn:E; [|discriminate].
  destruct (Tiers.fits hi M s2) eqn:Ft; [|discriminate].
  assert (FT : forall z, Tiers.count hi (Tiers.held s2) z <= M z).
  { unfold Tiers.fits in Ft. apply andb_prop in Ft. destruct Ft as (F1 & F2). apply Nat.leb_le in F1, F2. intros [];
      auto. }
  assert (RM : room HSM hi (tr x s2) <= M x) by exact (FT x).
  assert (ST : (forall z, Tiers.held s2 (Tiers.other x) z = false) /\ within hi x s2 /\
    exists y', step HSM hi (tr x s) y' (tr x s2) /\ @pr (conv c x) y' = Tiers.price c y).
  { clear IH H Ft RM. destruct (Tiers.teq_other x) as (T1 & T2). pose proof (Tiers.teq_refl x) as T3.
    destruct s as [w k h n]. simpl in Z. destruct B as (B1 & B2). simpl in B1, B2.
    unfold Tiers.exec, Tiers.idle in E. simpl in E. destruct y as [p q|p|p|y q|y q|y q]; simpl in E.
    - destruct k; simpl in E; [unfold Tiers.guard in E; discriminate|]. tbools. subst. split; auto.
      split; [split; simpl; intros; inj; auto|]. exists (Advance p q). split; auto. constructor; auto.
    - destruct k; simpl in E; [unfold Tiers.guard in E; discriminate|]. tbools. subst. split; auto.
      split; [split; simpl; intros; inj; auto|]. exists (Record p). split; auto. constructor; auto.
    - tbools. subst. split; auto. split; [split; simpl; intros; inj; auto; discriminate|]. exists (Backpropagate p).
      split; auto. constructor.
    - destruct k; simpl in E; [unfold Tiers.guard in E; discriminate|]. tbools. subst.
      destruct (teq_cases x y) as [->| ->].
      + split. { intros z. simpl. unfold Tiers.upd. rewrite T1. simpl. auto. } split.
        { split; simpl; intros; inj; auto. unfold Tiers.upd in *. rewrite T3 in *. simpl in *.
            destruct (Nat.eqb_spec z q); subst; auto. }
        exists (StoreHidden q). split; [|reflexivity].
        replace (tr x (Tiers.mk (Some q) None (Tiers.upd h x q true) n))
          with (mk (Some q) None (add (h x) q) (fun _ => false) n).
        { constructor; auto. } unfold tr, Tiers.upd. simpl. rewrite T3. reflexivity.
      + exfalso. specialize (FT (Tiers.other x)). simpl in FT. rewrite M0, Tiers.count_add in FT by auto. lia.
    - destruct k; simpl in E; [unfold Tiers.guard in E; discriminate|]. tbools.
      destruct (teq_cases x y) as [->| ->]; [|rewrite Z in *; discriminate].
      split; auto. split; [split; simpl; intros; inj; auto|]. exists (Restore q). split; auto. constructor.
      unfold available, tr. simpl.
      match goal with K : h x q = true |- _ => rewrite K end. auto.
    - tbools. destruct (teq_cases x y) as [->| ->]; [|rewrite Z in *; discriminate].
      split. { intros z. simpl. unfold Tiers.upd. rewrite T1. simpl. auto. } split.
      { split; simpl; intros; inj; auto. unfold Tiers.upd in *. rewrite T3 in *. simpl in *. destruct (Nat.eqb_spec z
        q); auto; discriminate. }
      exists (DropHidden q). split; [|reflexivity].
      replace (tr x (Tiers.mk w k (Tiers.upd h x q false) n)) with (mk w k (del (h x) q) (fun _ => false) n).
      { constructor; auto. } unfold tr, Tiers.upd. simpl. rewrite T3. reflexivity. }
  destruct ST as (Z2 & B2 & y' & T & P). destruct (IH s2 s1 M0 H Z2 B2) as (r & R & F & C).
  exists ((y', tr x s2) :: r). simpl. repeat split; auto; lia.
Qed.

(* plans look at the numbers of slots only *)
Lemma plan_ext : forall c x m t k, Tiers.plan c x m t k -> forall m', (forall y, m y = m' y) -> Tiers.plan c x m' t k.
Proof.
  induction 1; intros m'' E; econstructor; eauto; try (rewrite <- ?E; auto; fail).
  apply IHplan1. intros y'. unfold Tiers.less. now rewrite E.
Qed.
(* a plan of one tier is a plan of two *)
Lemma plan_conv : forall c x m t k, @plan (conv c x) m t k -> forall M, M x = m -> Tiers.plan c x M t k.
Proof.
  intros c x. induction 1; intros M E; subst m.
  - constructor.
  - change (if t =? 0 then 0 else read (conv c x)) with (if t =? 0 then 0 else Tiers.rd c x). constructor; auto.
  - apply (Tiers.p_cut c x M x y t k1 k2); auto. apply IHplan1. unfold Tiers.less. now rewrite Tiers.teq_refl.
Qed.

(* One tier alone (the other has no slots), at any prices: the recurrence's least value is the least cost over all legal
   schedules. *)
Theorem one_tier_exact : forall c x m t, m (Tiers.other x) = 0 -> 1 <= m x -> 1 <= t ->
  (forall l, Tiers.legal x m t l = true -> exists k, Tiers.plan c x m t k /\ k <= Tiers.cost c l) /\
  (forall k, Tiers.plan c x m t k -> exists l, Tiers.complete x m t l = true /\ Tiers.cost c l = k).
Proof.
  intros c x m t M0 Hm Ht. split; [|intros k P; now apply TiersReached.plan_reached].
  intros l H. unfold Tiers.legal in H. destruct (Tiers.execute t m (Tiers.init x t) l) as [s1|] eqn:E; [|discriminate].
  apply Nat.eqb_eq in H. destruct (Tiers.teq_other x) as (T1 & T2).
  destruct (translate c t m x l _ _ M0 E) as (r & R & F & C).
  { intros z. simpl. now rewrite T1. }
  { split; simpl; intros; inj; try lia. apply andb_prop in H0. destruct H0 as (_ & H0). apply Nat.eqb_eq in H0. lia. }
  replace (tr x (Tiers.init x t)) with (init 0 (0 + t)) in R, F by (unfold tr, Tiers.init, init; simpl;
    now rewrite Tiers.teq_refl).
  destruct (@priced_lower (conv c x) (m x) Hm t 0 r Ht R) as (p & P1 & P2). { rewrite F. simpl. auto. }
  exists p. split. { eapply plan_conv; eauto. } lia.
Qed.

(* without fast slots *)
Corollary slow_only_exact : forall c s t, 1 <= s -> 1 <= t ->
  (forall l, Tiers.legal Slow (fs 0 s) t l = true -> exists k, Tiers.plan c Slow (fs 0 s) t k /\ k <= Tiers.cost c l) /\
  (forall k, Tiers.plan c Slow (fs 0 s) t k -> exists l, Tiers.complete Slow (fs 0 s) t l = true /\ Tiers.cost c l = k).
Proof. intros. now apply one_tier_exact. Qed.
(* without slow slots *)
Corollary fast_only_exact : forall c f t, 1 <= f -> 1 <= t ->
  (forall l, Tiers.legal Fast (fs f 0) t l = true -> exists k, Tiers.plan c Fast (fs f 0) t k /\ k <= Tiers.cost c l) /\
  (forall k, Tiers.plan c Fast (fs f 0) t k -> exists l, Tiers.complete Fast (fs f 0) t l = true /\ Tiers.cost c l = k).
Proof. intros. now apply one_tier_exact. Qed.
