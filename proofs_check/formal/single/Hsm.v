(* HSM: hidden states only, a slot each, the starting state included. *)
From Membptt Require Import Laws Projection Cut Reach Values.

(* the policy is fair *)
Lemma HSM_fair : fair HSM.
Proof. split; auto. intros h o i h' o' i' H _ _. simpl. destruct h; [rewrite H|]; auto; lia. Qed.

(* with h_a stored and at most one slot in use below v, nothing else is stored below v *)
Lemma only_start : forall s a v, a < v -> hid s a = true -> sumr (weight HSM (hid s) (int s)) 0 v <= 1 ->
  forall x, x < v -> hid s x = (x =? a).
Proof.
  intros s a v Hv Ha Hs x Hx. destruct (Nat.eqb_spec x a) as [->|N]; auto. destruct (hid s x) eqn:E; auto. exfalso.
  pose proof (sumr_ge2 (weight HSM (hid s) (int s)) 0 a x v ltac:(lia) ltac:(lia) ltac:(lia)) as G.
  unfold weight in G at 1 2. simpl in G. rewrite Ha, E in G. lia.
Qed.

(* every legal schedule of k steps from position a runs at least C(k, m) steps *)
Lemma hsm_lower : forall m, 1 <= m -> forall k a l,
  run HSM (a + k) m (init a (a + k)) l -> lft (fin (init a (a + k)) l) = a -> hsm k m <= ev a (a + k) l.
Proof.
  pose proof HSM_fair as Fp.
  induction m as [|m' IHm]; intros Hm k; [lia|]. set (m := S m') in *.
  induction k as [k IHk] using lt_wf_ind. intros a l R F. remember (a + k) as hi eqn:Ehi.
  destruct (Nat.eq_dec k 0) as [->|Hk]. { rewrite hsm_no_step. lia. }
  assert (IHleft : forall v l1 l2, l = l1 ++ l2 -> a < v < hi -> v <= lft (fin (init a hi) l1) ->
            core (fin (init a hi) l1) = None -> (forall q, pos (fin (init a hi) l1) = Some q -> v <= q) ->
            sumr (weight HSM (hid (fin (init a hi) l1)) (int (fin (init a hi) l1))) 0 v <= 1 ->
            hsm (v - a) m <= ev a v l2).
  { intros v l1 l2 E Hv Hl HC HP HS. pose proof R as R0. rewrite E, run_app in R0. destruct R0 as (R1 & _).
    destruct (at_instant HSM m a hi l l1 l2 R F E) as (_ & _ & R2 & F2 & St).
    pose proof (no_internal l1 HSM m hi (init a hi) eq_refl (fun _ => eq_refl) R1) as NI.
    set (s := fin (init a hi) l1) in *.
    assert (Ha : hid s a = true).
    { destruct St as [A|A]; auto; try lia. intros q Q. apply HP in Q. lia. rewrite NI in A. discriminate. }
    destruct (left_part l2 HSM v a m hi s (proj2 Fp) R2) as (l' & R' & F' & E'); auto; try lia.
    { apply only_start; auto. lia. }
    rewrite <- E'. assert (Ev : v = a + (v - a)) by lia. rewrite Ev in R', F' |- *.
    replace (a + (v - a) - a) with (v - a) by lia. apply IHk; auto. lia. }
  destruct (first_backward HSM m a hi l R F ltac:(lia)) as (l1 & l2 & El & B1 & B2 & B3 & B4 & B5).
  destruct (Nat.eq_dec k 1) as [->|Hk1].
  { rewrite hsm_one_step. rewrite El, ev_app. lia. }
  destruct (Nat.eq_dec m' 0) as [Hm1|Hm1].
  { (* one slot: after the first backward only the start is stored *)
    assert (hsm (hi - 1 - a) m <= ev a (hi - 1) l2).
    { apply (IHleft _ _ _ El); auto; try lia.
      - rewrite B3. discriminate.
      - rewrite room_sumr, (sumr_split _ 0 (hi - 1) (S hi)) in B4 by lia. unfold m in B4. lia. }
    rewrite El, ev_app, (ev_cut l2 a (hi - 1) hi) by lia. unfold m in *. subst m'.
    destruct k; [lia|]. rewrite hsm_one_slot_S. replace (hi - 1 - a) with k in * by lia. lia. }
  (* two slots or more *)
  destruct (where_to_cut HSM m m' a hi l Fp) as (v & Hv & Right & Cut); auto; try discriminate; try (simpl; lia).
  assert (HR : v < hi -> hsm (hi - v) m' <= ev v hi l).
  { intros Hlt. destruct (Right Hlt) as (l' & R' & F' & E'). eapply Nat.le_trans; [|exact E'].
    assert (Ev : hi = v + (hi - v)) by lia. rewrite Ev in R', F' |- *.
    replace (v + (hi - v) - v) with (hi - v) by lia. apply IHm; auto. lia. }
  destruct Cut as [->|(k1 & k2 & Ek & Hav & HC & (q & HP & Hq) & Hl & Hleft & Hbad & Hsum)].
  { (* one slot was never needed *)
    specialize (HR ltac:(lia)). pose proof (hsm_slot m' k ltac:(lia)). replace (hi - a) with k in HR by lia. unfold m.
    lia. }
  assert (Hvhi : v < hi).
  { destruct (Nat.eq_dec v hi); [|lia]. subst v. pose proof R as R0. rewrite Ek, run_app in R0.
    pose proof (no_internal k1 HSM m hi (init a hi) eq_refl (fun _ => eq_refl) (proj1 R0)) as NI.
    rewrite right_room_last in Hbad; auto; try lia. simpl in Hbad. lia. }
  specialize (HR Hvhi).
  assert (hsm (v - a) m <= ev a v k2).
  { apply (IHleft _ _ _ Ek); auto; try lia. { intros q' Q. rewrite HP in Q. inj. lia. }
    change (weigh HSM true false _) with 1 in Hsum. unfold m in Hsum. lia. }
  rewrite (ev_cut l a v hi) by lia. rewrite Ek at 1. rewrite ev_app.
  rewrite hsm_cuts by (unfold m; lia).
  eapply Nat.le_trans; [apply (least_le _ _ (v - a)); lia|]. cbv beta.
  replace (m - 1) with m' by (unfold m; lia). replace (k - (v - a)) with (hi - v) by lia. lia.
Qed.

(* no legal schedule of hidden states costs less than the recurrence *)
Theorem hsm_lower_bound : forall t m l, 1 <= m -> legal HSM m t l = true -> hsm t m <= cost l.
Proof.
  intros t m l Hm H. apply legal_run in H. destruct H as (r & E & R & F). subst l.
  eapply Nat.le_trans; [apply (hsm_lower m Hm t 0 r R F) | apply ev_le_cost].
Qed.

(* any t steps can be done in C(t, f + 1) with f slots free beside the start *)
Lemma hsm_solves : forall f t, Solves HSM t f (hsm t (S f)).
Proof.
  induction f as [|f IHf]; induction t as [t IH] using lt_wf_ind.
  - destruct t. { rewrite hsm_no_step. apply solve_none. }
    rewrite hsm_one_slot_S. apply solve_last, IH. lia.
  - destruct (le_lt_dec t 1).
    { destruct t. rewrite hsm_no_step. apply solve_none.
      replace t with 0 by lia. rewrite hsm_one_step. apply (solve_last HSM 0 (S f) 0), solve_none. }
    rewrite hsm_cuts by lia.
    destruct (least_in (t - 1) (fun y => y + hsm y (S (S f)) + hsm (t - y) (S (S f) - 1)) ltac:(lia)) as (y & Hy & E).
    rewrite E. replace (S (S f) - 1) with (S f) by lia.
    apply solve_hidden; auto; try lia; apply IH; lia.
Qed.

(* some complete schedule of hidden states costs what the recurrence says *)
Theorem hsm_reached : forall t m, 1 <= m -> exists l, complete HSM m t l = true /\ cost l = hsm t m /\ recorded l = t.
Proof.
  intros t m Hm. apply (solve_complete HSM t (m - 1)); auto; [|simpl; lia].
  replace m with (S (m - 1)) at 2 by lia. apply hsm_solves.
Qed.

(* HSM is optimal: its recurrence is the least cost over all legal schedules of hidden states *)
Theorem hsm_exact : forall t m, 1 <= m ->
  (exists l, complete HSM m t l = true /\ cost l = hsm t m) /\ (forall l, legal HSM m t l = true -> hsm t m <= cost l).
Proof.
  intros t m Hm. split; [|intros l; apply hsm_lower_bound; auto]. destruct (hsm_reached t m Hm) as (l & A & B & _).
  eauto.
Qed.

(* a witness: 3 steps in 2 slots, 5 forwards; with 1 slot the same stream is refused *)
Definition hsm_3_2 := [Advance 0 1; StoreHidden 1; Advance 1 2; Record 2; Backpropagate 2; Restore 1; Record 1;
  Backpropagate 1;
                       DropHidden 1; Restore 0; Record 0; Backpropagate 0; DropHidden 0].
(* checked by computation *)
Example hsm_witness : complete HSM 2 3 hsm_3_2 = true /\ cost hsm_3_2 = 5 /\ hsm 3 2 = 5 /\
  legal HSM 1 3 hsm_3_2 = false.
Proof. vm_compute. auto. Qed.
