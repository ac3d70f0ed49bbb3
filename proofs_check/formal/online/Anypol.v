(* Any policy may be run up to b m q0 steps and restarted there; lower bounds by exhaustive search. *)
From Membptt Require Import Laws Values Hsm Ism Closed Online Restart RestartCost.

(* ---------------------------------------------------------------- run P, then restart at every b m q *)

(* it grows strictly with q *)
Lemma b_strict : forall m q, 1 <= m -> b m q < b m (S q).
Proof. intros. destruct m; [lia|]. rewrite b_SS. pose proof (b_pos m (S q)). lia. Qed.
(* every t beyond b m q0 lies on a stretch from q0 on *)
Lemma stretch_any : forall m q0 t, 1 <= m -> b m q0 < t -> exists q, q0 <= q /\ b m q < t <= b m (S q).
Proof.
  intros m q0 t H L. assert (forall d, t <= b m (q0 + d) -> exists q, q0 <= q /\ b m q < t <= b m (S q)) as G.
  { induction d; intros. { rewrite Nat.add_0_r in *. lia. } destruct (le_lt_dec t (b m (q0 + d))); auto.
    exists (q0 + d). replace (S (q0 + d)) with (q0 + S d) by lia. lia. }
  apply (G t). pose proof (b_ge m (q0 + t) H). lia.
Qed.

Section Again.
Variable m : nat.
Hypothesis Hm : 2 <= m.
(* the restarted part *)
Definition again t := hop (b m (lev m t)) (W (m - 1) (t - b m (lev m t))).
(* what is held after a restart is in order *)
Lemma again_rising : forall q0 t, b m q0 < t -> rising 0 (again t) t.
Proof.
  intros q0 t Ht. destruct (stretch_any m q0 t ltac:(lia) ltac:(lia)) as (q & Q1 & Q2). unfold again.
  rewrite (lev_is m t q) by lia.
  pose proof (b_pos m q). apply hop_rising; [lia|]. apply W_rising. lia.
Qed.
(* and fits *)
Lemma again_fits : forall t, S (length (again t)) <= m.
Proof. intros t. unfold again. rewrite hop_length. pose proof (W_fits (m - 1) (t - b m (lev m t))). lia. Qed.
(* at a restart it holds the newest state only *)
Lemma again_first : forall q t x, b m q = t -> In x (again (S t)) -> x = t.
Proof.
  intros q t x Eq I. unfold again in I. pose proof (b_strict m q ltac:(lia)).
  rewrite (lev_is m (S t) q) in I by lia. rewrite Eq, W_0 in I by lia. destruct I as [<-|[]]. auto.
Qed.
(* and later nothing but that and what it held *)
Lemma again_next : forall q0 t x, b m q0 <= t -> In x (again (S t)) -> x = t \/ (b m q0 < t /\ In x (again t)).
Proof.
  intros q0 t x Hq I. destruct (Nat.eq_dec t (b m q0)) as [E|E]. { left. apply (again_first q0); auto. }
  destruct (stretch_any m q0 t ltac:(lia) ltac:(lia)) as (q & Q1 & Q2).
  destruct (Nat.eq_dec t (b m (S q))). { left. apply (again_first (S q)); auto. }
  revert I. unfold again. rewrite (lev_is m (S t) q), (lev_is m t q) by lia. pose proof (b_pos m q). intros I.
  pose proof (hop_next (b m q) _ _ _ (W_next (m - 1) (t - b m q) ltac:(lia))) as N.
  replace (b m q + (t - b m q)) with t in N by lia. replace (S (t - b m q)) with (S t - b m q) in N by lia.
  destruct (N x I); auto. right. split; [lia | auto].
Qed.
(* at most one more pass over b m q steps *)
Lemma again_after : forall t q, b m q < t <= b m (S q) -> evals t m (again t) <= hsm t m + b m q.
Proof.
  intros t q H. unfold again. rewrite (lev_is m t q) by lia. pose proof (b_pos m q).
  replace m with (S (m - 1)) at 1 by lia.
  rewrite hop_evals by lia.
  replace (S (m - 1)) with m by lia. pose proof (hsm_along m q t ltac:(lia) ltac:(lia)) as A.
  assert (b m (S q) = b m q + b (m - 1) (S q)). { destruct m; [lia|]. rewrite b_SS. do 2 f_equal. lia. }
  pose proof (X_passes (m - 1) q (t - b m q) ltac:(lia) ltac:(lia)). lia.
Qed.
(* after b m q0 steps the ratio is at most 1 + (m + 1)/((q0 + 1) m + 1), whatever was done before *)
Lemma again_ratio : forall q0 t, b m q0 < t -> ((q0 + 1) * m + 1) * evals t m (again t) <= ((q0 + 2) * m + 2) * hsm t m.
Proof.
  intros q0 t Ht. destruct (stretch_any m q0 t ltac:(lia) Ht) as (q & Hq & H). pose proof (again_after t q H).
  pose proof (hsm_full m q ltac:(lia)) as E. pose proof (hsm_along m q t ltac:(lia) ltac:(lia)) as A.
  assert (hsm (b m q) m <= hsm t m) by (rewrite A; apply Nat.le_add_r).
  assert (b m q * ((q0 + 1) * m + 1) <= (m + 1) * hsm t m).
  { eapply Nat.le_trans; [|apply (Nat.mul_le_mono_l (hsm (b m q) m) (hsm t m) (m + 1));
    auto]. rewrite E. apply Nat.mul_le_mono_l.
    pose proof (Nat.mul_le_mono_r (q0 + 1) (q + 1) m ltac:(lia)). lia. }
  eapply Nat.le_trans; [apply Nat.mul_le_mono_l; exact H0|]. nia.
Qed.
(* so a ratio of num/den up to b m q0 is one for every t, if 1 + (m + 1)/((q0 + 1) m + 1) <= num/den *)
Lemma again_for_every_t : forall q0 num den t, b m q0 < t -> den * ((q0 + 2) * m + 2) <= num * ((q0 + 1) * m + 1) ->
  den * evals t m (again t) <= num * hsm t m.
Proof.
  intros q0 num den t Ht G. pose proof (again_ratio q0 t Ht) as R.
  apply (Nat.mul_le_mono_pos_l _ _ ((q0 + 1) * m + 1)); [lia|].
  apply (Nat.mul_le_mono_l _ _ den) in R. apply (Nat.mul_le_mono_r _ _ (hsm t m)) in G. lia.
Qed.
End Again.

(* P up to b m q0, then restarted *)
Definition then_restart m (q0 : nat) (P : online_policy m) (Hm : 2 <= m) : online_policy m.
Proof.
  refine (Pol m (fun t => if t <=? b m q0 then held P t else again m t) (fun t =>
    if t <=? b m q0 then used P t else again m t) _ _ _ _ _).
  - intros t Ht. destruct (Nat.leb_spec t (b m q0)). apply (fits m P t Ht). apply again_fits. auto.
  - intros t x Ht I. destruct (Nat.leb_spec t (b m q0)).
    apply (passed m P t x Ht I). apply (rising_in _ _ _ _ (again_rising m Hm q0 t H) I).
  - intros t x Ht. destruct (Nat.leb_spec (S t) (b m q0)).
    { rewrite (proj2 (Nat.leb_le t _)) by lia. apply (only_passed m P t x Ht). }
    intros I. destruct (again_next m Hm q0 t x ltac:(lia) I) as [->|(L & J)]; auto.
    destruct (Nat.leb_spec t (b m q0)); [lia | auto].
  - intros t Ht. destruct (Nat.leb_spec t (b m q0)). { apply (of_held m P t Ht). } intros x I. exact I.
  - intros t Ht. destruct (Nat.leb_spec t (b m q0)). apply (in_order m P t Ht). apply (again_rising m Hm q0). auto.
Defined.
(* a ratio of at most num/den up to b m q0 is one for every t, if 1 + (m + 1)/((q0 + 1) m + 1) <= num/den *)
Theorem for_every_t : forall m q0 num den (P : online_policy m), 2 <= m ->
  (forall t, 1 <= t <= b m q0 -> den * online P t <= num * hsm t m) ->
  den * ((q0 + 2) * m + 2) <= num * ((q0 + 1) * m + 1) ->
  exists P' : online_policy m, forall t, 1 <= t -> den * online P' t <= num * hsm t m.
Proof.
  intros m q0 num den P Hm H G. exists (then_restart m q0 P Hm). intros t Ht. unfold online. simpl.
  destruct (Nat.leb_spec t (b m q0)). apply H. lia. apply (again_for_every_t m Hm q0); auto.
Qed.

(* ---------------------------------------------------------------- exhaustive search for lower bounds *)

(* every list of some of h, in order *)
Fixpoint subs (h : list nat) : list (list nat) :=
  match h with [] => [[]] | x :: r => subs r ++ map (cons x) (subs r) end.
(* without one of its members *)
Fixpoint without (h : list nat) : list (list nat) :=
  match h with [] => [] | x :: r => r :: map (cons x) (without r) end.
(* what can be held after state t is passed: h, or t beside h, or in place of one of it *)
Definition succs m t h := h :: (if length h <? m - 1 then [h ++ [t]] else map (fun g => g ++ [t]) (without h)).
(* some completion has a ratio below num/den *)
Definition good num den m t h := existsb (fun r => den * evals t m r <? num * hsm t m) (subs h).
(* the sets that are left after t = S n steps *)
Fixpoint alive num den m n : list (list nat) := filter (good num den m (S n))
  (match n with 0 => [[]] | S n' => flat_map (succs m n) (alive num den m n') end).

(* every ordered part of a list is among its parts *)
Lemma subs_sub : forall h r a t, rising a h t -> rising a r t -> incl r h -> In r (subs h).
Proof.
  induction h; intros r a0 t Hh Hr I. { destruct r; simpl; auto. destruct (I n). left; auto. }
  cbn [rising subs] in *. destruct Hh as (H1 & H2). apply in_or_app. destruct r as [|x r].
  - left. eapply (IHh [] a t); auto. simpl. apply rising_lt in H2. auto. intros x [].
  - cbn [rising] in Hr. destruct Hr as (R1 & R2). destruct (Nat.eq_dec x a) as [->|N].
    + right. apply in_map. apply (IHh r a t); auto. intros y J. pose proof (rising_in _ _ _ _ R2 J).
      destruct (I y (or_intror J)); auto. lia.
    + left. assert (a < x). { destruct (I x (or_introl eq_refl)) as [->|J];
        [lia|]. pose proof (rising_in _ _ _ _ H2 J). lia. }
      apply (IHh (x :: r) a t); auto. { simpl; auto. }
      intros y J. destruct (I y J) as [<-|K]; auto. destruct J as [->|J]; [lia|]. pose proof (rising_in _ _ _ _ R2 J).
      lia.
Qed.
(* one state more, the newest *)
Lemma rising_app : forall h a t, rising a h t -> rising a (h ++ [t]) (S t).
Proof. induction h; simpl; intros. lia. destruct H. auto. Qed.
(* one step more, no state more *)
Lemma rising_S : forall h a t, rising a h t -> rising a h (S t).
Proof. induction h; simpl; intros. lia. destruct H. auto. Qed.
(* one state less *)
Lemma without_rising : forall h a t g, rising a h t -> In g (without h) -> rising a g t /\ S (length g) = length h.
Proof.
  induction h; cbn [rising without length]; intros. destruct H0. destruct H as (H1 & H2). destruct H0 as [<-|I].
  - split; auto. clear IHh. destruct h; cbn [rising] in *; [lia|]. destruct H2. split; auto. lia.
  - apply in_map_iff in I. destruct I as (g' & <- & I). destruct (IHh a t g' H2 I) as (A & B). simpl. auto.
Qed.
(* any one can be left out *)
Lemma without_has : forall h y, In y h -> NoDup h -> exists g, In g (without h) /\ forall x, In x h -> x = y \/ In x g.
Proof.
  induction h; intros y I N. destruct I. inversion N; subst. cbn [without]. destruct I as [->|I].
  - exists h. split. left; auto. intros x [->|J]; auto.
  - destruct (IHh y I H2) as (g & G & A). exists (a :: g). split. { right. apply in_map. auto. }
    intros x [->|J]. right; left; auto. destruct (A x J); auto. right; right; auto.
Qed.

(* a policy below the ratio so far holds one of the sets that can *)
Lemma alive_has : forall num den m (P : online_policy m) n, 1 <= m ->
  (forall t, 1 <= t <= S n -> den * online P t < num * hsm t m) ->
  exists h, In h (alive num den m n) /\ rising 0 h (S n) /\ length h <= m - 1 /\
            (forall x, In x (held P (S n)) -> 0 < x < S n -> In x h).
Proof.
  intros num den m P n Hm. induction n; intros H.
  - exists []. cbn [alive]. assert (G : good num den m 1 [] = true).
    { unfold good. simpl. rewrite orb_false_r. apply Nat.ltb_lt. specialize (H 1 ltac:(lia)). unfold online in H.
      destruct (used P 1) eqn:E; auto. pose proof (in_order m P 1 ltac:(lia)) as R. rewrite E in R. simpl in R.
      destruct R as (R1 & R2). apply rising_lt in R2. lia. }
    simpl. rewrite G. simpl. repeat split; auto; try lia.
  - destruct IHn as (h & A & R & L & I). { intros. apply H. lia. }
    assert (Next : exists h', In h' (succs m (S n) h) /\ rising 0 h' (S (S n)) /\ length h' <= m - 1 /\
                   (forall x, In x (held P (S (S n))) -> 0 < x < S (S n) -> In x h')).
    { destruct (in_dec Nat.eq_dec (S n) (held P (S (S n)))) as [J|J].
      - unfold succs. destruct (Nat.ltb_spec (length h) (m - 1)).
        + exists (h ++ [S n]). split; [right; left; auto|]. split; [apply rising_app; auto|]. split.
          { rewrite app_length. simpl. lia. }
          intros x K X. apply in_or_app. destruct (only_passed m P (S n) x ltac:(lia) K) as [->|K']. right; left; auto.
          destruct (Nat.eq_dec x (S n)) as [->|]. right; left; auto. left. apply I; auto. lia.
        + (* some y of h is not held *)
          assert (Y : exists y, In y h /\ ~ In y (held P (S (S n)))).
          { destruct (Forall_dec (fun y => In y (held P (S (S n)))) (fun y => in_dec Nat.eq_dec y _) h) as [F|F].
            - exfalso. rewrite Forall_forall in F. pose proof (fits m P (S (S n)) ltac:(lia)).
              assert (NoDup (S n :: h)) as ND.
              { constructor; [|eapply rising_nodup; eauto]. intro K. pose proof (rising_in _ _ _ _ R K). lia. }
              pose proof (NoDup_incl_length ND (l' := held P (S (S n)))) as Q. simpl in Q.
              assert (incl (S n :: h) (held P (S (S n)))) by (intros x [<-|K]; auto). specialize (Q H2). lia.
            - apply neg_Forall_Exists_neg in F; [|intros y; apply in_dec, Nat.eq_dec]. rewrite Exists_exists in F.
              auto. }
          destruct Y as (y & Y1 & Y2). destruct (without_has h y Y1 (rising_nodup _ _ _ R)) as (g & G1 & G2).
          destruct (without_rising h 0 (S n) g R G1) as (G3 & G4).
          exists (g ++ [S n]). split. { right. apply in_map_iff. eauto. } split; [apply rising_app; auto|]. split.
          { rewrite app_length. simpl. lia. }
          intros x K X. apply in_or_app. destruct (Nat.eq_dec x (S n)) as [->|]. right; left; auto. left.
          destruct (only_passed m P (S n) x ltac:(lia) K) as [->|K']; [lia|].
          destruct (G2 x (I x K' ltac:(lia))) as [->|]; auto. tauto.
      - exists h. split. left; auto. split. apply rising_S; auto. split; auto. intros x K X.
        destruct (only_passed m P (S n) x ltac:(lia) K) as [->|K']. tauto.
        apply I; auto. destruct (Nat.eq_dec x (S n)) as [->|]. tauto. lia. }
    destruct Next as (h' & N1 & N2 & N3 & N4). exists h'. repeat split; auto.
    cbn [alive]. apply filter_In. split. { apply in_flat_map. eauto. }
    unfold good. apply existsb_exists. exists (used P (S (S n))). split.
    + pose proof (in_order m P (S (S n)) ltac:(lia)) as O. apply (subs_sub h' _ 0 (S (S n))); auto.
      intros x K. apply N4. apply (of_held m P (S (S n)) ltac:(lia) x K). apply (rising_in _ _ _ _ O K).
    + apply Nat.ltb_lt. apply (H (S (S n))). lia.
Qed.

(* no set is left: no policy *)
Theorem search : forall num den m (P : online_policy m) n, 1 <= m -> alive num den m n = [] ->
  exists t, 1 <= t <= S n /\ num * hsm t m <= den * online P t.
Proof.
  intros num den m P n Hm E.
  destruct (Forall_dec (fun t => den * online P t < num * hsm t m) (fun t => lt_dec _ _) (seq 1 (S n))) as [F|F].
  - exfalso. rewrite Forall_forall in F. destruct (alive_has num den m P n Hm) as (h & A & _).
    { intros t Ht. apply F, in_seq. lia. } rewrite E in A. destruct A.
  - apply neg_Forall_Exists_neg in F; [|intros; apply lt_dec]. rewrite Exists_exists in F. destruct F as (t & T & N).
    apply in_seq in T. exists t. split; lia.
Qed.

(* 41/35 for two slots, 12/11 for three *)
Theorem two_slots_lower : forall P : online_policy 2, exists t, 1 <= t <= 15 /\ 41 * hsm t 2 <= 35 * online P t.
Proof. intros. apply (search 41 35 2 P 14); [lia | vm_compute; reflexivity]. Qed.
(* three slots: no policy keeps less than 12/11 to t = 10 *)
Theorem three_slots_lower : forall P : online_policy 3, exists t, 1 <= t <= 10 /\ 12 * hsm t 3 <= 11 * online P t.
Proof. intros. apply (search 12 11 3 P 9); [lia | vm_compute; reflexivity]. Qed.
