(* (10) with beta = alpha - 1: hidden and internal states, every tensor counted once. A stored internal state of step p
   is its input h_p, its output h_(p+1) and a rest of alpha - 2 slots; each h_p takes one slot, whoever holds it.
   Dropping an internal state may leave its input, its output, or both: they can be kept (StoreHidden) at any time. *)
From Membptt Require Import Laws Projection Cut Reach Values SharedOnce.

Section Shared.
Variable alpha : nat.
Hypothesis alpha_2 : 2 <= alpha.
Notation POL := (SHARED alpha).
Notation C := (shared alpha).
(* SharedOnce.v at this alpha *)
Notation SHARED_fair := (SharedOnce.SHARED_fair alpha alpha_2).
Notation SHARED_sharing := (SharedOnce.SHARED_sharing alpha alpha_2).
Notation only_start := (SharedOnce.only_start alpha alpha_2).
Notation room_above := (SharedOnce.room_above alpha alpha_2).
Notation run_once := (SharedOnce.run_once alpha alpha_2).

(* every legal schedule of k steps from position a runs at least C(k, m) steps *)
Lemma shared_lower : forall m, 1 <= m -> forall k a l,
  run POL (a + k) m (init a (a + k)) l -> lft (fin (init a (a + k)) l) = a -> C k m <= ev a (a + k) l.
Proof.
  pose proof SHARED_fair as Fp.
  induction m as [m IHm] using lt_wf_ind. intros Hm k.
  induction k as [k IHk] using lt_wf_ind. intros a l R F. remember (a + k) as hi eqn:Ehi.
  destruct (Nat.eq_dec k 0) as [->|Hk]. { rewrite shared_no_step. lia. }
  assert (IHleft : forall v l1 l2, l = l1 ++ l2 -> a < v < hi -> v <= lft (fin (init a hi) l1) ->
            core (fin (init a hi) l1) = None -> (forall q, pos (fin (init a hi) l1) = Some q -> v <= q) ->
            (forall x, x < v -> hid (fin (init a hi) l1) x = (x =? a)) ->
            (forall p, p < v -> int (fin (init a hi) l1) p = false) -> C (v - a) m <= ev a v l2).
  { intros v l1 l2 E Hv Hl HC HP HH HI.
    destruct (at_instant POL m a hi l l1 l2 R F E) as (_ & _ & R2 & F2 & _).
    destruct (left_part l2 POL v a m hi (fin (init a hi) l1) (proj2 Fp) R2) as (l' & R' & F' & E'); auto; try lia.
    rewrite <- E'. assert (Ev : v = a + (v - a)) by lia. rewrite Ev in R', F' |- *.
    replace (a + (v - a) - a) with (v - a) by lia. apply IHk; auto. lia. }
  assert (IHright : forall v m' l', 1 <= m' < m -> a <= v < hi -> run POL hi m' (init v hi) l' ->
            lft (fin (init v hi) l') = v -> C (hi - v) m' <= ev v hi l').
  { intros v m' l' Hm' Hv R' F'. assert (Ev : hi = v + (hi - v)) by lia. rewrite Ev in R', F' |- *.
    replace (v + (hi - v) - v) with (hi - v) by lia. apply IHm; auto; lia. }
  destruct (first_backward POL m a hi l R F ltac:(lia)) as (l1 & l2 & El & B1 & B2 & B3 & B4 & B5).
  destruct (Nat.eq_dec k 1) as [->|Hk1].
  { rewrite shared_one_step. rewrite El, ev_app. lia. }
  destruct (Nat.eq_dec m 1) as [Hm1|Hm1].
  { (* one slot: after the first backward only the start is stored *)
    assert (C (hi - 1 - a) m <= ev a (hi - 1) l2).
    { destruct (at_instant POL m a hi l l1 l2 R F El) as (_ & _ & _ & _ & St).
      rewrite room_sumr in B4. destruct (only_start (fin (init a hi) l1) a (S hi)) as (A & B); try lia.
      { apply St; auto; try lia. rewrite B3. discriminate. }
      apply (IHleft _ _ _ El); auto; try lia.
      - rewrite B3. discriminate.
      - intros x Hx. apply A. lia.
      - intros p Hp. apply B. lia. }
    rewrite El, ev_app, (ev_cut l2 a (hi - 1) hi) by lia. subst m.
    destruct k; [lia|]. rewrite shared_one_slot_S. replace (hi - 1 - a) with k in * by lia. lia. }
  (* two slots or more *)
  destruct (where_to_cut POL m (m - 1) a hi l Fp SHARED_sharing) as (v & Hv & Right & Cut); auto; try (simpl; lia).
  assert (HR : v < hi -> C (hi - v) (m - 1) <= ev v hi l).
  { intros Hlt. destruct (Right Hlt) as (l' & R' & F' & E'). eapply Nat.le_trans; [|exact E']. apply IHright; auto;
      lia. }
  destruct Cut as [->|(k1 & k2 & Ek & Hav & HC & (q & HP & Hq) & Hl & Hleft & Hbad & Hsum)].
  { (* one slot was never needed *)
    specialize (HR ltac:(lia)). pose proof (shared_slot alpha alpha_2 (m - 1) k ltac:(lia)) as Q.
    replace (hi - a) with k in HR by lia. replace (S (m - 1)) with m in Q by lia. lia. }
  destruct (at_instant POL m a hi l k1 k2 R F Ek) as (_ & Below & R2 & F2 & St).
  set (s := fin (init a hi) k1) in *.
  assert (Ha : hid s a = true \/ int s a = true).
  { apply St; auto; try lia. intros q' Q. rewrite HP in Q. inj. lia. }
  change (weigh POL true false (int s (v - 1))) with 1 in Hsum.
  assert (Hsum1 : sumr (weight POL (hid s) (int s)) 0 v <= 1) by lia.
  assert (Hvhi : v < hi).
  { destruct (Nat.eq_dec v hi); [|lia]. exfalso. subst v. destruct (int s (hi - 1)) eqn:E.
    - destruct (only_start s a hi) as (_ & B); auto; try lia. rewrite B in E by lia. discriminate.
    - rewrite right_room_last in Hbad; auto; try lia. { change (weigh POL true false false) with 1 in Hbad. lia. }
      destruct (int s hi) eqn:E'; auto. apply Below in E'. lia. }
  specialize (HR Hvhi).
  assert (HPv : forall q', pos s = Some q' -> v <= q') by (intros q' Q; rewrite HP in Q; inj; lia).
  (* a hidden cut at v, if the steps below it are done again from the start *)
  assert (Hidden : C (v - a) m <= ev a v k2 -> C k m <= ev a hi l).
  { intro HL. rewrite (ev_cut l a v hi) by lia. rewrite Ek at 1. rewrite ev_app.
    pose proof (shared_hidden alpha alpha_2 k m (v - a) ltac:(lia) ltac:(lia)) as Q.
    replace (k - (v - a)) with (hi - v) in Q by lia. lia. }
  destruct (le_lt_dec v (S a)) as [Lv|Lv].
  2: { destruct (only_start s a v) as (A & B); auto. apply Hidden. apply (IHleft _ _ _ Ek); auto; lia. }
  assert (v = S a) by lia. subst v. replace (S a - a) with 1 in * by lia. rewrite shared_one_step in Hidden.
  destruct (le_lt_dec 1 (ev a (S a) k2)) as [L1|L1]; [auto|].
  destruct (int s a) eqn:Ei.
  2: { destruct (only_start s a (S a)) as (A & B); auto;
    [rewrite Ei; auto|]. apply Hidden. rewrite <- (shared_one_step alpha m).
       replace 1 with (S a - a) at 1 by lia. apply (IHleft _ _ _ Ek); auto; lia. }
  (* step a ran once or twice before its internal state was stored, and never again *)
  destruct (le_lt_dec 2 (ev a (S a) l)) as [L2|L2].
  { rewrite (ev_cut l a (S a) hi) by lia. pose proof (shared_hidden alpha alpha_2 k m 1 ltac:(lia) ltac:(lia)) as Q.
    rewrite shared_one_step in Q. replace (k - 1) with (hi - S a) in Q by lia. lia. }
  assert (Rs : room POL hi s <= m).
  { pose proof R as R0. rewrite Ek, run_app in R0. destruct R0 as (R1 & _). apply (room_run k1 POL hi m (init a hi));
      auto.
    rewrite room_sumr, (sumr_at _ 0 a (S hi)), !sumr_zero; try lia; [|intros y Hy..].
    - unfold weight, init. simpl. rewrite Nat.eqb_refl. destruct a; simpl; lia.
    - unfold weight, init. simpl. rewrite (proj2 (Nat.eqb_neq y a)) by lia. destruct y; auto.
    - unfold weight, init. simpl. rewrite (proj2 (Nat.eqb_neq y a)) by lia. destruct y; auto. }
  destruct (room_above m a hi s Hvhi Ei Rs) as (Hm' & _).
  destruct (run_once m a hi l Hvhi Hm' R F ltac:(lia)) as (E1 & l' & R' & F' & E').
  pose proof (IHright (S a) (m - (alpha - 1)) l' ltac:(lia) ltac:(lia) R' F') as Q.
  pose proof (shared_known alpha alpha_2 k m Hm' ltac:(lia)) as Q2. replace (k - 1) with (hi - S a) in Q2 by lia.
  rewrite (ev_cut l a (S a) hi) by lia. lia.
Qed.

(* no legal schedule, with each tensor counted once, costs less than (10) with beta = alpha - 1 *)
Theorem shared_lower_bound : forall t m l, 1 <= m -> legal POL m t l = true -> C t m <= cost l.
Proof.
  intros t m l Hm H. apply legal_run in H. destruct H as (r & E & R & F). subst l.
  eapply Nat.le_trans; [apply (shared_lower m Hm t 0 r R F) | apply ev_le_cost].
Qed.

(* ---------------------------------------------------------------- a schedule that reaches it *)

(* what is legal as machine.py charges is legal with each tensor counted once *)
Lemma charged_looser : looser (CHARGED alpha) POL.
Proof. repeat split; auto. intros [] [] []; simpl; lia. Qed.

(* any t steps can be done in C(t, m) with m - 1 slots free beside the start *)
Lemma charged_solves : forall m, 1 <= m -> forall t, Solves (CHARGED alpha) t (m - 1) (C t m).
Proof.
  induction m as [m IHm] using lt_wf_ind. intros Hm. induction t as [t IH] using lt_wf_ind.
  destruct (le_lt_dec t 1) as [Ht|Ht].
  { destruct t. rewrite shared_no_step. apply solve_none.
    replace t with 0 by lia. rewrite shared_one_step. apply (solve_last (CHARGED alpha) 0 (m - 1) 0), solve_none. }
  destruct (Nat.eq_dec m 1) as [->|Hm1].
  { destruct t; [lia|]. rewrite shared_one_slot_S. apply solve_last, IH. lia. }
  destruct (shared_attained alpha alpha_2 t m ltac:(lia) ltac:(lia)) as [(y & Hy & E)|[(Ha & E)|(y & Ha & Hy & E)]];
    rewrite E.
  - replace (m - 1) with (S (m - 1 - 1)) at 1 by lia. apply solve_hidden; auto; try (simpl; lia).
    + replace (S (m - 1 - 1)) with (m - 1) by lia. apply IH. lia.
    + apply (IHm (m - 1)); lia.
  - replace (m - 1) with ((m - (alpha - 1) - 1) + (alpha - 1)) at 1 by lia. apply solve_internal; auto; try lia.
    + left. split; auto. split; [|simpl; lia]. intros [] []; simpl; intros; try discriminate; lia.
    + simpl. rewrite shared_no_step. apply solve_none.
    + apply (IHm (m - (alpha - 1))); lia.
  - replace (m - 1) with ((m - alpha - 1) + alpha) at 1 by lia. apply solve_internal; auto; try lia.
    + right. split; [lia | simpl; lia].
    + replace (m - alpha - 1 + alpha) with (m - 1) by lia. apply IH. lia.
    + apply (IHm (m - alpha)); lia.
Qed.

(* some complete schedule costs what (10) says, even as machine.py charges *)
Theorem charged_reached : forall t m, 1 <= m -> exists l, complete (CHARGED alpha) m t l = true /\ cost l = C t m /\
  recorded l = t.
Proof.
  intros t m Hm. apply (solve_complete (CHARGED alpha) t (m - 1)); auto; [|simpl; lia]. apply charged_solves. auto.
Qed.

(* (10) with beta = alpha - 1 is optimal over all legal schedules that count every tensor once *)
Theorem shared_exact : forall t m, 1 <= m ->
  (exists l, legal POL m t l = true /\ cost l = C t m) /\ (forall l, legal POL m t l = true -> C t m <= cost l).
Proof.
  intros t m Hm. split.
  - destruct (charged_reached t m Hm) as (l & A & B & _). exists l. split; auto.
    apply looser_legal with (CHARGED alpha); [apply charged_looser | apply complete_legal; auto].
  - intros l. apply shared_lower_bound. auto.
Qed.

(* and over all that are legal as machine.py charges *)
Theorem charged_exact : forall t m, 1 <= m ->
  (exists l, complete (CHARGED alpha) m t l = true /\ cost l = C t m) /\ (forall l,
    legal (CHARGED alpha) m t l = true -> C t m <= cost l).
Proof.
  intros t m Hm. split. { destruct (charged_reached t m Hm) as (l & A & B & _). eauto. }
  intros l H. apply shared_lower_bound; auto. apply looser_legal with (CHARGED alpha); auto. apply charged_looser.
Qed.
End Shared.

(* a witness: alpha = 2, 3 steps in 3 slots, 3 forwards, all internal states; with 2 slots the same stream is refused *)
Definition shared_3_3 := [Record 0; StoreInternal 0; Record 1; StoreInternal 1; Record 2; Backpropagate 2;
  LoadInternal 1; Backpropagate 1;
                          LoadInternal 0; Backpropagate 0; DropHidden 0].
(* checked by computation *)
Example shared_witness : complete (CHARGED 2) 3 3 shared_3_3 = true /\ cost shared_3_3 = 3 /\ shared 2 3 3 = 3 /\
  legal (SHARED 2) 2 3 shared_3_3 = false.
Proof. vm_compute. auto. Qed.
(* alpha = 3, 3 steps in 4 slots, 4 forwards: a hidden cut, then an internal one; HSM needs 5 *)
Definition shared_3_4 := [Advance 0 1; StoreHidden 1; Record 1; StoreInternal 1; Record 2; Backpropagate 2;
  LoadInternal 1; Backpropagate 1;
                          DropHidden 1; Restore 0; Record 0; Backpropagate 0; DropHidden 0].
(* checked by computation *)
Example shared_witness_2 : complete (CHARGED 3) 4 3 shared_3_4 = true /\ cost shared_3_4 = 4 /\ shared 3 3 4 = 4 /\
  hsm 3 4 = 5 /\ legal (SHARED 3) 3 3 shared_3_4 = false.
Proof. vm_compute. auto. Qed.
(* alpha = 2, 3 steps in 3 slots: the output of internal state 0 is kept, beside a busy core; as machine.py charges,
   no *)
Definition shared_keep := [Record 0; StoreInternal 0; Record 1; StoreHidden 1; DropInternal 0; StoreInternal 1;
  Record 2; Backpropagate 2;
                           LoadInternal 1; Backpropagate 1; Restore 0; Record 0; Backpropagate 0].
(* checked by computation *)
Example shared_witness_3 : legal (SHARED 2) 3 3 shared_keep = true /\ cost shared_keep = 4 /\
  legal (CHARGED 2) 3 3 shared_keep = false.
Proof. vm_compute. auto. Qed.
