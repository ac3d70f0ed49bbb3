(* Both tiers, all prices: no legal schedule costs less than the recurrence with all slots in the fast tier. *)
From Membptt Require Import Laws Policies Projection Cut Priced.
From Membptt Require Tiers Value OneTier.
Import Tiers(Fast, Slow, fs).

(* the same prices with free transfers *)
Definition free (c : Tiers.prices) := Prices (Tiers.forward c) 0 0.
(* s' stores what either tier of s stores *)
Definition Un (s : Tiers.st) s' := pos s' = Tiers.pos s /\ core s' = Tiers.core s /\ lft s' = Tiers.lft s /\
  (forall z, hid s' z = Tiers.held s Fast z || Tiers.held s Slow z).

(* a sum of sums *)
Lemma sum_add : forall f g len a, sum (fun x => f x + g x) a len = sum f a len + sum g a len.
Proof. intros f g. induction len; simpl; intros; auto. rewrite IHlen. lia. Qed.
(* in no more slots than both tiers take *)
Lemma Un_room : forall hi s s', Un s s' -> room HSM hi s' <= Tiers.count hi (Tiers.held s) Fast + Tiers.count hi
  (Tiers.held s) Slow.
Proof.
  intros hi s s' (_ & _ & _ & H). unfold room, Tiers.count. rewrite <- sum_add. apply sum_le. intros x _.
  unfold weight. simpl.
  rewrite H. destruct (Tiers.held s Fast x), (Tiers.held s Slow x); simpl; lia.
Qed.
(* what a tier holds is held *)
Lemma held_any : forall s s' y q, Un s s' -> Tiers.held s y q = true -> hid s' q = true.
Proof. intros s s' y q (_ & _ & _ & H) E. rewrite H. destruct y; rewrite E; auto using orb_true_r. Qed.

(* a schedule of two tiers is a run of the machine with all slots, at no more than its forwards cost *)
Lemma merge : forall c hi M l s s1 s', Tiers.execute hi M s l = Some s1 -> Un s s' ->
  exists r, run HSM hi (M Fast + M Slow) s' r /\ Un s1 (fin s' r) /\ tot (@pr (free c)) r <= Tiers.cost c l.
Proof.
  intros c hi M l. induction l as [|y l IH]; intros s s1 s' H U.
  { simpl in H. injection H as <-. exists []. simpl. auto. }
  simpl in H. destruct (Tiers.exec hi s y) as [s2|] eqn:E; [|discriminate].
  destruct (Tiers.fits hi M s2) eqn:Ft; [|discriminate].
  assert (RM : Tiers.count hi (Tiers.held s2) Fast + Tiers.count hi (Tiers.held s2) Slow <= M Fast + M Slow).
  { unfold Tiers.fits in Ft. apply andb_prop in Ft. destruct Ft as (F1 & F2). apply Nat.leb_le in F1, F2. lia. }
  assert (ST : Un s2 s' \/ exists y' s2', step HSM hi s' y' s2' /\ Un s2 s2' /\ @pr (free c) y' <= Tiers.price c y).
  { clear IH H Ft RM. pose proof U as (U1 & U2 & U3 & U4). destruct s' as [w' k' h' i' n']. destruct s as [w k h n].
    simpl in U1, U2, U3, U4. subst w' k' n'.
    unfold Tiers.exec, Tiers.idle in E. simpl in E. destruct y as [p q|p|p|y q|y q|y q]; simpl in E.
    - destruct k; simpl in E; [unfold Tiers.guard in E; discriminate|]. OneTier.tbools. subst. right.
      eexists (Advance p q), _. split; [constructor; auto|]. split; [repeat split; auto | simpl; lia].
    - destruct k; simpl in E; [unfold Tiers.guard in E; discriminate|]. OneTier.tbools. subst. right.
      eexists (Record p), _. split; [constructor; auto|]. split; [repeat split; auto | simpl; lia].
    - OneTier.tbools. subst. right. eexists (Backpropagate p), _. split; [constructor|].
      split; [repeat split; auto | simpl; lia].
    - destruct k; simpl in E; [unfold Tiers.guard in E; discriminate|]. OneTier.tbools. subst. destruct (h' q) eqn:Eq.
      + left. repeat split; auto. intros z. simpl. rewrite U4. unfold Tiers.upd.
        destruct (Nat.eqb_spec z q); [subst|now rewrite !andb_false_r].
        rewrite U4 in Eq. destruct y; simpl; rewrite ?orb_true_r; auto.
      + right. eexists (StoreHidden q), _. split; [constructor; auto|]. split; [|simpl; lia]. repeat split; auto.
        intros z. simpl.
        unfold add, Tiers.upd. destruct (Nat.eqb_spec z q); [|rewrite !andb_false_r; auto].
        destruct y; simpl; rewrite ?orb_true_r; auto.
    - destruct k; simpl in E; [unfold Tiers.guard in E; discriminate|]. OneTier.tbools. right.
      eexists (Restore q), _. split; [constructor|split; [repeat split; auto | simpl; lia]]. unfold available.
      assert (K : h' q = true) by (rewrite U4; destruct y; match goal with K : h _ q = true |- _ => rewrite K end;
        auto using orb_true_r).
      now rewrite K.
    - OneTier.tbools. destruct (h (Tiers.other y) q) eqn:Eo.
      + left. repeat split; auto. intros z. simpl. rewrite U4. unfold Tiers.upd.
        destruct (Nat.eqb_spec z q); [subst|now rewrite !andb_false_r].
        destruct y; simpl in *; rewrite Eo; rewrite ?orb_true_r; auto.
      + right. eexists (DropHidden q), _. split; [constructor; auto|].
        { rewrite U4; destruct y; match goal with K : h _ q = true |- _ => rewrite K end; auto using orb_true_r. }
        split; [|simpl; lia]. repeat split; auto. intros z. simpl. unfold del, Tiers.upd. rewrite U4.
        destruct (Nat.eqb_spec z q); [subst|now rewrite !andb_false_r]. destruct y; simpl in *; rewrite Eo; auto. }
  destruct ST as [U2|(y' & s2' & T & U2 & P)].
  - destruct (IH s2 s1 s' H U2) as (r & R & F & C). exists r. repeat split; try apply F; auto. simpl. lia.
  - destruct (IH s2 s1 s2' H U2) as (r & R & F & C). exists ((y', s2') :: r). simpl.
    repeat split; try apply F; auto; try lia.
    pose proof (Un_room hi s2 s2' U2). lia.
Qed.

(* so it costs no less than the recurrence with all slots in the fast tier *)
Theorem never_below : forall c x m t l, 1 <= t -> 1 <= m x -> Tiers.legal x m t l = true ->
  exists k, Value.value c t Fast (fs (m Fast + m Slow) 0) t = Some k /\ k <= Tiers.cost c l.
Proof.
  intros c x m t l Ht Hm H. unfold Tiers.legal in H.
  destruct (Tiers.execute t m (Tiers.init x t) l) as [s1|] eqn:E; [|discriminate]. apply Nat.eqb_eq in H.
  destruct (merge c t m l _ _ (init 0 t) E) as (r & R & F & C).
  { repeat split. intros z. simpl. destruct x; simpl; rewrite ?orb_false_r; auto. }
  change (init 0 t) with (init 0 (0 + t)) in R, F.
  destruct (@priced_lower (free c) (m Fast + m Slow) ltac:(destruct x; lia) t 0 r Ht R) as (p & P1 & P2).
  { destruct F as (_ & _ & F & _). rewrite F. auto. }
  pose proof (OneTier.plan_conv c Fast _ _ _ P1 (fs (m Fast + m Slow) 0) eq_refl) as P3.
  destruct (Value.value_least c t Fast _ t p P3 (le_n t)) as (k & K1 & K2). exists k. split; auto. lia.
Qed.
