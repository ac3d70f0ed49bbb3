(* With one state's delay: the best ratio of two slots is 57/52, not 41/35. *)
From Membptt Require Import Laws Values Hsm Ism Closed Online Restart RestartCost Anypol Best Deferred.
Require Import NArith.
Local Notation nat_ := N.to_nat.

(* ---------------------------------------------------------------- run D, then restart: as in Anypol.v *)

(* P up to b m q0, then restarted *)
Definition dthen_restart m (q0 : nat) (P : delayed_policy m) (Hm : 2 <= m) : delayed_policy m.
Proof.
  refine (Dpol m (fun t => if t <=? b m q0 then dheld P t else again m t) (fun t =>
    if t <=? b m q0 then dused P t else again m t) _ _ _ _ _).
  - intros t Ht. destruct (Nat.leb_spec t (b m q0)). apply (dfits m P t Ht). apply again_fits. auto.
  - intros t x Ht I. destruct (Nat.leb_spec t (b m q0)).
    apply (dpassed m P t x Ht I). apply (rising_in _ _ _ _ (again_rising m Hm q0 t H) I).
  - intros t x Ht. destruct (Nat.leb_spec (S t) (b m q0)).
    { rewrite (proj2 (Nat.leb_le t _)) by lia. apply (donly m P t x Ht). }
    intros I. destruct (again_next m Hm q0 t x ltac:(lia) I) as [->|(L & J)]; auto.
    destruct (Nat.leb_spec t (b m q0)); [lia | auto].
  - intros t Ht. destruct (Nat.leb_spec t (b m q0)). { apply (dof_held m P t Ht). } intros x I. exact I.
  - intros t Ht. destruct (Nat.leb_spec t (b m q0)). apply (din_order m P t Ht). apply (again_rising m Hm q0). auto.
Defined.
(* a ratio of at most num/den up to b m q0 is one for every t, if 1 + (m + 1)/((q0 + 1) m + 1) <= num/den *)
Theorem dfor_every_t : forall m q0 num den (P : delayed_policy m), 2 <= m ->
  (forall t, 1 <= t <= b m q0 -> den * donline P t <= num * hsm t m) ->
  den * ((q0 + 2) * m + 2) <= num * ((q0 + 1) * m + 1) ->
  exists P' : delayed_policy m, forall t, 1 <= t -> den * donline P' t <= num * hsm t m.
Proof.
  intros m q0 num den P Hm H G. exists (dthen_restart m q0 P Hm). intros t Ht. unfold donline. simpl.
  destruct (Nat.leb_spec t (b m q0)). apply H. lia. apply (again_for_every_t m Hm q0); auto.
Qed.

(* ---------------------------------------------------------------- search, a state late *)

(* g: a test that keeps what is good *)
Fixpoint dalive (g : nat -> list nat -> bool) m n : list (list nat) := filter (g (S n))
  (match n with 0 => [[]] | S n' => match n' with 0 => dalive g m n'
    | _ => flat_map (succs m n') (dalive g m n') end end).

(* state t - 1 is worth nothing at the end *)
Lemma drop_last : forall r a t m, a < t - 1 -> rising a r t -> exists r', rising a r' (t - 1) /\ incl r' r /\
  Online.fin a r' t m = Online.fin a r t m.
Proof.
  induction r as [|x r IH]; intros a t m Ha R; cbn [rising] in R.
  - exists []. repeat split; auto. intros x [].
  - destruct R as (R1 & R2). destruct (Nat.eq_dec x (t - 1)) as [->|].
    + exists []. cbn [rising Online.fin]. split; auto. split. intros x []. destruct r as [|y r].
      * cbn [Online.fin]. rewrite Nat.sub_diag, hsm_no_step. lia.
      * cbn [rising] in R2. destruct R2 as (R2 & R3). apply rising_lt in R3. lia.
    + pose proof (rising_lt _ _ _ R2). destruct (IH x t (m - 1) ltac:(lia) R2) as (r' & A & B & C).
      exists (x :: r'). cbn [rising Online.fin]. split; auto. split; [|lia].
      intros y [->|I]; [left; auto | right; auto].
Qed.

(* a policy below the ratio so far holds one of the sets that can *)
Lemma dalive_has : forall num den m (P : delayed_policy m) n tst, 1 <= m ->
  (forall t h, length h <= m - 1 -> good num den m t h = true -> tst t h = true) ->
  (forall t, 1 <= t <= S n -> den * donline P t < num * hsm t m) ->
  exists h, In h (dalive tst m n) /\ (h = [] \/ rising 0 h n) /\ length h <= m - 1 /\
            (forall x, In x (dheld P (S n)) -> x < n -> In x h).
Proof.
  intros num den m P n tst Hm Htst. induction n; intros H.
  - exists []. cbn [dalive]. assert (G : good num den m 1 [] = true).
    { unfold good. simpl. rewrite orb_false_r. apply Nat.ltb_lt. specialize (H 1 ltac:(lia)). unfold donline in H.
      destruct (dused P 1) eqn:E; auto. pose proof (din_order m P 1 ltac:(lia)) as R. rewrite E in R. simpl in R.
      destruct R as (R1 & R2). apply rising_lt in R2. lia. }
    apply Htst in G; [|simpl; lia]. simpl. rewrite G. simpl. repeat split; auto; try lia.
  - destruct IHn as (h & A & R & L & I). { intros. apply H. lia. }
    assert (Next : exists h', In h' (match n with 0 => dalive tst m n
      | _ => flat_map (succs m n) (dalive tst m n) end) /\
                   rising 0 h' (S n) /\ length h' <= m - 1 /\
                     (forall x, In x (dheld P (S (S n))) -> x < S n -> In x h')).
    { assert (Old : forall x, In x (dheld P (S (S n))) -> x < n -> In x h).
      { intros x K X. destruct (donly m P (S n) x ltac:(lia) K) as [->|[E|K']]; [lia|lia|]. apply I; auto. }
      destruct (Nat.eq_dec n 0) as [->|Hn].
      - exists h. destruct R as [->|R]. 2: { apply rising_lt in R. lia. } split; auto. simpl. repeat split; try lia.
        intros x K X. pose proof (dpassed m P 2 x ltac:(lia) K). lia.
      - assert (R' : rising 0 h n) by (destruct R as [->|R]; auto; simpl; lia). clear R.
        assert (Q : forall h', In h' (succs m n h) -> In h' (match n with 0 => dalive tst m n | _ => flat_map (succs m
          n) (dalive tst m n) end)).
        { intros h' K. destruct n; [lia|]. apply in_flat_map. eauto. }
        destruct (in_dec Nat.eq_dec n (dheld P (S (S n)))) as [J|J].
        + unfold succs in Q. destruct (Nat.ltb_spec (length h) (m - 1)).
          * exists (h ++ [n]). split; [apply Q; right; left; auto|]. split; [apply rising_app; auto|]. split.
            { rewrite app_length. simpl. lia. }
            intros x K X. apply in_or_app. destruct (Nat.eq_dec x n) as [->|]. right; left; auto. left.
            apply Old; auto. lia.
          * assert (Y : exists y, In y h /\ ~ In y (dheld P (S (S n)))).
            { destruct (Forall_dec (fun y => In y (dheld P (S (S n)))) (fun y => in_dec Nat.eq_dec y _) h) as [F|F].
              - exfalso. rewrite Forall_forall in F. pose proof (dfits m P (S (S n)) ltac:(lia)).
                assert (NoDup (n :: h)) as ND.
                { constructor; [|eapply rising_nodup; eauto]. intro K. pose proof (rising_in _ _ _ _ R' K). lia. }
                pose proof (NoDup_incl_length ND (l' := dheld P (S (S n)))) as Q'. simpl in Q'.
                assert (incl (n :: h) (dheld P (S (S n)))) by (intros x [<-|K]; auto). specialize (Q' H2). lia.
              - apply neg_Forall_Exists_neg in F; [|intros y; apply in_dec, Nat.eq_dec]. rewrite Exists_exists in F.
                auto. }
            destruct Y as (y & Y1 & Y2). destruct (without_has h y Y1 (rising_nodup _ _ _ R')) as (g & G1 & G2).
            destruct (without_rising h 0 n g R' G1) as (G3 & G4).
            exists (g ++ [n]). split. { apply Q. right. apply in_map_iff. eauto. } split; [apply rising_app; auto|].
            split. { rewrite app_length. simpl. lia. }
            intros x K X. apply in_or_app. destruct (Nat.eq_dec x n) as [->|]. right; left; auto. left.
            destruct (G2 x (Old x K ltac:(lia))) as [->|]; auto. tauto.
        + exists h. split. apply Q. left; auto. split. apply rising_S; auto. split; auto. intros x K X. apply Old; auto.
          destruct (Nat.eq_dec x n) as [->|]. tauto. lia. }
    destruct Next as (h' & N1 & N2 & N3 & N4). exists h'. repeat split; auto.
    cbn [dalive]. apply filter_In. split; auto.
    destruct (drop_last (dused P (S (S n))) 0 (S (S n)) m ltac:(lia) (din_order m P (S (S n)) ltac:(lia))) as (r & R1 &
      R2 & R3).
    replace (S (S n) - 1) with (S n) in R1 by lia.
    apply Htst; auto. unfold good. apply existsb_exists. exists r. split.
    + apply (subs_sub h' _ 0 (S n)); auto.
      intros x K. apply N4. apply (dof_held m P (S (S n)) ltac:(lia) x), R2, K. apply (rising_in _ _ _ _ R1 K).
    + apply Nat.ltb_lt. unfold evals. rewrite R3. apply (H (S (S n))). lia.
Qed.
(* the test in binary *)
Definition lowv (m : nat) L T := if m =? 1 then triangular L else lower L T.
(* the gaps, from below *)
Fixpoint flow (a : nat) (r : list nat) t m (T : tables) : N := match r with
  | [] => lowv m (N.of_nat (t - 1 - a)) T
  | x :: r' => N.add (lowv m (N.of_nat (x - a)) T) (flow x r' t (m - 1) (tl T)) end.
(* may the set h keep the ratio if the loop ends at t *)
Definition quick num den m T t h := existsb (fun r =>
  N.ltb (N.mul den (N.add (N.of_nat t) (flow 0 r t m T))) (N.mul num (upper (N.of_nat t) T))) (subs h).
(* the bound of one gap *)
Lemma lowv_ok : forall m L T, 1 <= m -> tabs_ok T m -> nat_ (lowv m (N.of_nat L) T) <= hsm L m.
Proof.
  intros. unfold lowv. destruct (Nat.eqb_spec m 1) as [->|].
  - rewrite triangular_nat, Nat2N.id, hsm_one_slot. auto.
  - pose proof (lower_ok T m (N.of_nat L) H H0) as A. rewrite Nat2N.id in A. auto.
Qed.
(* and of all gaps *)
Lemma flow_ok : forall r a t m T, length r < m -> tabs_ok T m -> nat_ (flow a r t m T) <= Online.fin a r t m.
Proof.
  induction r; intros a0 t m T L H; cbn [flow Online.fin length] in *.
  - apply lowv_ok; auto.
  - rewrite N2Nat.inj_add. pose proof (lowv_ok m (a - a0) T ltac:(lia) H).
    assert (tabs_ok (tl T) (m - 1)). { destruct T as [|(rs & rS) T]; simpl in *; auto. tauto. }
    specialize (IHr a t (m - 1) (tl T) ltac:(lia) H1). lia.
Qed.
(* a part of a list is no longer *)
Lemma subs_length : forall h r, In r (subs h) -> length r <= length h.
Proof.
  induction h; cbn [subs]; intros r I. { destruct I as [<-|[]]. auto. } apply in_app_or in I. destruct I as [I|I].
  - apply IHh in I. simpl. lia.
  - apply in_map_iff in I. destruct I as (r' & <- & I). apply IHh in I. simpl. lia.
Qed.
(* no set that can is lost *)
Lemma quick_keeps : forall num den m Q t h, 1 <= m -> length h <= m - 1 -> good (nat_ num) (nat_ den) m t h = true ->
  quick num den m (tabs m Q) t h = true.
Proof.
  intros num den m Q t h Hm L G. unfold good in G. apply existsb_exists in G. destruct G as (r & I & G).
  apply Nat.ltb_lt in G.
  unfold quick. apply existsb_exists. exists r. split; auto. apply N.ltb_lt.
  pose proof (subs_length h r I). pose proof (flow_ok r 0 t m (tabs m Q) ltac:(lia) (tabs_are_ok m Q)) as F.
  pose proof (upper_ok (tabs m Q) m (N.of_nat t) Hm (tabs_are_ok m Q)) as U. rewrite Nat2N.id in U. unfold evals in G.
  assert (nat_ (den * (N.of_nat t + flow 0 r t m (tabs m Q))) < nat_ (num * upper (N.of_nat t) (tabs m Q))); [|lia].
  rewrite !N2Nat.inj_mul, N2Nat.inj_add, Nat2N.id.
  apply (Nat.mul_le_mono_l _ _ (nat_ num)) in U.
  assert (nat_ den * (t + nat_ (flow 0 r t m (tabs m Q))) <= nat_ den * (t + Online.fin 0 r t m)) by
    (apply Nat.mul_le_mono_l; lia). lia.
Qed.
(* if none is left, no policy keeps the ratio *)
Theorem dsearch : forall num den m Q (P : delayed_policy m) n, 1 <= m -> dalive (quick num den m (tabs m Q)) m n = [] ->
  exists t, 1 <= t <= S n /\ nat_ num * hsm t m <= nat_ den * donline P t.
Proof.
  intros num den m Q P n Hm E.
  destruct (Forall_dec (fun t => nat_ den * donline P t < nat_ num * hsm t m) (fun t =>
    lt_dec _ _) (seq 1 (S n))) as [F|F].
  - exfalso. rewrite Forall_forall in F.
    destruct (dalive_has (nat_ num) (nat_ den) m P n (quick num den m (tabs m Q)) Hm) as (h & A & _).
    { intros t h L G. apply quick_keeps; auto. }
    { intros t Ht. apply F, in_seq. lia. } rewrite E in A. destruct A.
  - apply neg_Forall_Exists_neg in F; [|intros; apply lt_dec]. rewrite Exists_exists in F. destruct F as (t & T & N).
    apply in_seq in T. exists t. split; lia.
Qed.

(* ---------------------------------------------------------------- the rule, a state late *)

Section Drule.
Variables (m : nat) (num den ahead : N) (late : bool) (T : tables).
Hypothesis Hm : 2 <= m.
(* so it is a policy *)
Definition drule : delayed_policy m.
Proof.
  assert (R : forall t, 1 <= t -> rising 0 (hold m num den ahead late 1 T (t - 2)) t).
  { intros t Ht. destruct (Nat.eq_dec t 1) as [->|]. { simpl. lia. }
    pose proof (proj1 (hold_ok m num den ahead late 1 Hm T (t - 2))) as A. apply rising_S in A.
    replace (S (S (t - 2))) with t in A by lia. auto. }
  refine (Dpol m (fun t => hold m num den ahead late 1 T (t - 2)) (fun t =>
    hold m num den ahead late 1 T (t - 2)) _ _ _ _ R).
  - intros. pose proof (hold_ok m num den ahead late 1 Hm T (t - 2)). lia.
  - intros t x Ht I. apply (rising_in _ _ _ _ (R t Ht) I).
  - intros t x Ht I. destruct (Nat.eq_dec t 1) as [->|]; auto. replace (S t - 2) with (S (t - 2)) in I by lia.
    apply (hold_next m num den ahead late 1 Hm T) in I. destruct I as [->|I]; auto. right; left. lia.
  - intros t _ x I. exact I.
Defined.
End Drule.

(* a checked rule, then restarted, keeps the ratio for every t *)
Theorem dbest : forall m Q num den ahead late q0 B, 2 <= m -> nth_error (row m Q) q0 = Some B ->
  chk m num den ahead late 1 (tabs m Q) (nat_ B) 1 [] = true ->
  nat_ den * ((q0 + 2) * m + 2) <= nat_ num * ((q0 + 1) * m + 1) ->
  exists P : delayed_policy m, forall t, 1 <= t -> nat_ den * donline P t <= nat_ num * hsm t m.
Proof.
  intros m Q num den ahead late q0 B H E C G. apply b_N in E. rewrite <- E in C.
  apply (dfor_every_t m q0 (nat_ num) (nat_ den) (drule m num den ahead late (tabs m Q) H)); auto.
  intros t Ht. destruct (Nat.eq_dec t 1) as [->|].
  - unfold donline. cbn [dused drule]. change (hold m num den ahead late 1 (tabs m Q) (1 - 2)) with (@nil nat).
    rewrite evals_nil. simpl (1 - 1). rewrite hsm_no_step, hsm_one_step. nia.
  - pose proof (chk_ok m num den ahead late 1 H (tabs m Q) (tabs_are_ok m Q) (b m q0) 0 C (t - 1) ltac:(lia)) as R.
    change (nat_ 1) with 1 in R. replace (t - 1 + 1) with t in R by lia. replace (t - 1 - 1) with (t - 2) in R by lia.
    exact R.
Qed.
Ltac dcomputed m Q num den ahead late q0 B :=
  apply (dbest m Q num den ahead late q0 B); [lia | vm_compute;
    reflexivity | vm_cast_no_check (eq_refl true) | vm_compute; lia].

(* two slots, a state late: 57/52 is the best *)
Theorem two_slots_late_lower : forall P : delayed_policy 2, exists t, 1 <= t <= 35 /\ 57 * hsm t 2 <= 52 * donline P t.
Proof. intros P. apply (dsearch 57%N 52%N 2 60 P 34); [lia | vm_compute; reflexivity]. Qed.
(* and some policy keeps it *)
Theorem two_slots_late_upper : exists P : delayed_policy 2, forall t, 1 <= t -> 52 * donline P t <= 57 * hsm t 2.
Proof. dcomputed 2 60 57%N 52%N 3%N false 15 136%N. Qed.
