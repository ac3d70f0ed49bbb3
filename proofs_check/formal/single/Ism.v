(* ISM: internal states only, a slot each; the starting state is outside the budget and stays. *)
From Membptt Require Import Laws Projection Cut Reach Values.

(* the policy is fair *)
Lemma ISM_fair : fair ISM.
Proof. split; auto. intros h o i h' o' i' _ H _. simpl. destruct o; [rewrite H|]; auto; lia. Qed.

(* the starting state stays, and no other hidden state is stored *)
Lemma start_stays : forall l m hi s, run ISM hi m s l -> forall x, hid (fin s l) x = hid s x.
Proof.
  induction l as [|[a s1] l IH]; simpl; intros m hi s R x; auto. destruct R as (T & _ & R). rewrite (IH m hi s1 R).
  inversion T; subst; simpl in *; auto; discriminate.
Qed.

(* with no slot in use below v, no step whose output is below v is stored *)
Lemma none_below : forall s v p, sumr (weight ISM (hid s) (int s)) 0 v = 0 -> S p < v -> int s p = false.
Proof.
  intros s v p Hs Hp. destruct (int s p) eqn:E; auto. exfalso.
  pose proof (sumr_ge (weight ISM (hid s) (int s)) 0 (S p) v ltac:(lia)) as G.
  unfold weight in G at 1. simpl in G. rewrite E in G. lia.
Qed.

(* every legal schedule of n steps from position a in k slots runs at least C(n, k + 1) steps *)
Lemma ism_lower : forall k n a l,
  run ISM (a + n) k (init a (a + n)) l -> lft (fin (init a (a + n)) l) = a -> ism n (S k) <= ev a (a + n) l.
Proof.
  pose proof ISM_fair as Fp.
  induction k as [|k IHk]; induction n as [n IHn] using lt_wf_ind; intros a l R F; remember (a + n) as hi eqn:Ehi;
    (destruct (Nat.eq_dec n 0) as [->|Hn]; [rewrite ism_no_step; lia|]);
    match goal with |- ism n (S ?j) <= _ =>
      assert (IHleft : forall v l1 l2, l = l1 ++ l2 -> a <= v < hi -> v <= lft (fin (init a hi) l1) ->
            core (fin (init a hi) l1) = None -> (forall q, pos (fin (init a hi) l1) = Some q -> v <= q) ->
            (forall p, p < v -> int (fin (init a hi) l1) p = false) -> ism (v - a) (S j) <= ev a v l2) end.
  1,3:(intros v l1 l2 E Hv Hl HC HP HS; (destruct (Nat.eq_dec v a) as [->|Hva]; [rewrite Nat.sub_diag, ism_no_step;
    lia|]);
    pose proof R as R0; rewrite E, run_app in R0; destruct R0 as (R1 & _);
    destruct (at_instant ISM _ a hi l l1 l2 R F E) as (_ & _ & R2 & F2 & _);
    destruct (left_part l2 ISM v a _ hi (fin (init a hi) l1) (proj2 Fp) R2) as (l' & R' & F' & E'); auto; try lia;
    [ intros x Hx; rewrite (start_stays _ _ _ _ R1); auto
    | rewrite <- E'; assert (Ev : v = a + (v - a)) by lia; rewrite Ev in R', F' |- *;
      replace (a + (v - a) - a) with (v - a) by lia; apply IHn; auto; lia ]).
  - (* no slot: after the first backward nothing is stored *)
    destruct (first_backward ISM 0 a hi l R F ltac:(lia)) as (l1 & l2 & El & B1 & B2 & B3 & B4 & B5).
    assert (ism (hi - 1 - a) 1 <= ev a (hi - 1) l2).
    { apply (IHleft _ _ _ El); auto; try lia.
      - rewrite B3. discriminate.
      - intros p Hp. apply none_below with (S hi); [|lia]. rewrite room_sumr in B4. lia. }
    rewrite El, ev_app, (ev_cut l2 a (hi - 1) hi) by lia.
    destruct n; [lia|]. rewrite ism_one_slot_S. replace (hi - 1 - a) with n in * by lia. lia.
  - destruct (where_to_cut ISM (S k) k a hi l Fp) as (v & Hv & Right & Cut); auto; try discriminate; try (simpl; lia).
    assert (HR : ism (hi - v) (S k) <= ev v hi l).
    { destruct (Nat.eq_dec v hi) as [->|]. { rewrite Nat.sub_diag, ism_no_step. lia. }
      destruct Right as (l' & R' & F' & E'); [lia|]. eapply Nat.le_trans; [|exact E'].
      assert (Ev : hi = v + (hi - v)) by lia. rewrite Ev in R', F' |- *.
      replace (v + (hi - v) - v) with (hi - v) by lia. apply IHk; auto. }
    destruct Cut as [->|(k1 & k2 & Ek & Hav & HC & (q & HP & Hq) & Hl & Hleft & Hbad & Hsum)].
    { (* one slot was never needed *)
      pose proof (ism_slot (S k) n ltac:(lia)). replace (hi - a) with n in HR by lia. lia. }
    assert (HL : ism (v - 1 - a) (S (S k)) <= ev a (v - 1) k2).
    { apply (IHleft _ _ _ Ek); auto; try lia. { intros q' Q. rewrite HP in Q. inj. lia. }
      intros p Hp. apply none_below with v; [|lia]. simpl in Hsum. lia. }
    rewrite (ev_cut l a v hi) by lia. rewrite Ek at 1. rewrite ev_app, (ev_cut k2 a (v - 1) v) by lia.
    rewrite ism_cuts by lia. eapply Nat.le_trans; [apply (least_le _ _ (v - a)); lia|]. cbv beta.
    replace (S (S k) - 1) with (S k) by lia. replace (n - (v - a)) with (hi - v) by lia.
    replace (v - a - 1) with (v - 1 - a) by lia. lia.
Qed.

(* no legal schedule of internal states in m - 1 slots costs less than the recurrence with m *)
Theorem ism_lower_bound : forall t m l, 1 <= m -> legal ISM (m - 1) t l = true -> ism t m <= cost l.
Proof.
  intros t m l Hm H. apply legal_run in H. destruct H as (r & E & R & F). subst l.
  replace m with (S (m - 1)) at 1 by lia.
  eapply Nat.le_trans; [apply (ism_lower (m - 1) t 0 r R F) | apply ev_le_cost].
Qed.

(* any t steps can be done in C(t, k + 1) with k slots free *)
Lemma ism_solves : forall k t, Solves ISM t k (ism t (S k)).
Proof.
  induction k as [|k IHk]; induction t as [t IH] using lt_wf_ind.
  - destruct t. { rewrite ism_no_step. apply solve_none. }
    rewrite ism_one_slot_S. apply solve_last, IH. lia.
  - destruct t. { rewrite ism_no_step. apply solve_none. }
    rewrite ism_cuts by lia.
    destruct (least_in (S t) (fun y => y + ism (y - 1) (S (S k)) + ism (S t - y) (S (S k) - 1)) ltac:(lia)) as (y & Hy
      & E).
    rewrite E. replace (S (S k) - 1) with (S k) by lia. replace (S k) with (k + 1) at 1 by lia.
    apply solve_internal; auto; try lia.
    + destruct (Nat.eq_dec y 1); [left | right]; simpl; repeat split; auto; lia.
    + replace (k + 1) with (S k) by lia. apply IH. lia.
Qed.

(* some complete schedule of internal states in m - 1 slots costs what the recurrence says with m *)
Theorem ism_reached : forall t m, 1 <= m -> exists l, complete ISM (m - 1) t l = true /\ cost l = ism t m /\
  recorded l = t.
Proof.
  intros t m Hm. apply (solve_complete ISM t (m - 1)); auto. replace m with (S (m - 1)) at 2 by lia. apply ism_solves.
Qed.

(* ISM with m slots is optimal over all legal schedules of internal states with m - 1 slots *)
Theorem ism_exact : forall t m, 1 <= m ->
  (exists l, complete ISM (m - 1) t l = true /\ cost l = ism t m) /\
  (forall l, legal ISM (m - 1) t l = true -> ism t m <= cost l).
Proof.
  intros t m Hm. split; [|intros l; apply ism_lower_bound; auto]. destruct (ism_reached t m Hm) as (l & A & B & _).
  eauto.
Qed.

(* a witness: 3 steps in 1 slot, 4 forwards; with no slot the same stream is refused *)
Definition ism_3_2 := [Advance 0 1; Record 1; StoreInternal 1; Record 2; Backpropagate 2; LoadInternal 1;
  Backpropagate 1;
                       Restore 0; Record 0; Backpropagate 0].
(* checked by computation *)
Example ism_witness : complete ISM 1 3 ism_3_2 = true /\ cost ism_3_2 = 4 /\ ism 3 2 = 4 /\
  legal ISM 0 3 ism_3_2 = false.
Proof. vm_compute. auto. Qed.
