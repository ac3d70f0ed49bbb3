(* Both tiers, slow transfers free: the recurrence is optimal. *)
From Membptt Require Import Counting Tiers TiersReached Value OneTier Exact Merge.

(* with free transfers a plan of one tier can be spread over two *)
Lemma spread : forall c, write c = 0 -> read c = 0 -> forall y m0 t k, plan c y m0 t k -> y = Fast -> m0 Slow = 0 ->
  forall x m, 1 <= m x -> m Fast + m Slow = m0 Fast -> plan c x m t k.
Proof.
  intros c W R. assert (Z : forall x, rd c x = 0 /\ wr c x = 0) by (intros []; simpl; auto).
  induction 1; intros -> S0 z M Hz HM.
  - constructor.
  - replace (if t =? 0 then 0 else rd c Fast) with (if t =? 0 then 0 else rd c z) by (destruct (t =? 0); auto;
      rewrite (proj1 (Z z)); auto).
    apply p_last; auto.
  - assert (x' = Fast).
    { destruct x'; auto. exfalso. pose proof (plan_slot _ _ _ _ _ H1 ltac:(lia)) as K. unfold less in K. simpl in K.
        lia. } subst x'.
    pose proof (plan_slot _ _ _ _ _ H1 ltac:(lia)) as Hs. unfold less in Hs. simpl in Hs.
    assert (exists x', 1 <= less M z x') as (x' & Hx).
    { unfold less. destruct z.
      - destruct (le_lt_dec (M Fast) 1); [exists Slow | exists Fast]; simpl; lia.
      - destruct (le_lt_dec (M Slow) 1); [exists Fast | exists Slow]; simpl; lia. }
    replace (forward c * y + rd c Fast + k1 + (wr c Fast + k2)) with (forward c * y + rd c z + k1 + (wr c x' + k2))
      by (rewrite (proj1 (Z z)), (proj2 (Z x')); auto).
    apply p_cut; auto. apply IHplan1; [reflexivity | exact S0 | exact Hx |]. unfold less. destruct z; simpl in *; lia.
  - simpl in H1. lia.
Qed.

(* with free transfers: the recurrence's value is the least cost over all legal schedules *)
Theorem free_slow_optimal : forall c x m t, write c = 0 -> read c = 0 -> 1 <= m x -> 1 <= t ->
  exists k, value c t x m t = Some k /\
    (exists l, complete x m t l = true /\ cost c l = k) /\ (forall l, legal x m t l = true -> k <= cost c l).
Proof.
  intros c x m t W R Hm Ht. destruct (some_plan c x m t Hm) as (j & P).
  destruct (value_least c t x m t j P (le_n t)) as (k & E & _). exists k. split; auto. split.
  - apply two_tiers_reached; auto.
  - intros l L. destruct (never_below c x m t l Ht Hm L) as (p & V & G).
    apply value_plan in V. pose proof (spread c W R _ _ _ _ V eq_refl eq_refl x m Hm eq_refl) as Q.
    destruct (value_least c t x m t p Q (le_n t)) as (k' & E' & G'). rewrite E in E'. injection E' as <-. lia.
Qed.
