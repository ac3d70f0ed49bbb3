(* What would go wrong if the machine, a policy, the accounting or a statement were a little different: each mutant is
   false, by a counterexample that Coq computes.
   A theorem that held of the mutants as well would say nothing about ours. *)
From Membptt Require Import Laws Policies Recurrences Theorems.
From Membptt Require Stretches.

(* the statement that the mutants break: no legal schedule costs less than C *)
Definition bounds (legal : nat -> nat -> list act -> bool) (cost : list act -> nat) (C : nat -> nat -> nat) :=
  forall t m l, 1 <= m -> legal m t l = true -> C t m <= cost l.
(* as it stands it is true *)
Theorem unmutated_hsm : bounds (legal HSM) cost hsm.
Proof. intros t m l Hm. apply hsm_exact. auto. Qed.
(* the same for ISM *)
Theorem unmutated_ism : bounds (fun m => legal ISM (m - 1)) cost ism.
Proof. intros t m l Hm. apply ism_exact. auto. Qed.
(* for MSM+ *)
Theorem unmutated_msm_plus : bounds (legal (SEPARATE 3)) cost (msm_plus 3).
Proof. intros t m l Hm. apply msm_plus_exact; auto. Qed.
(* and for (10) *)
Theorem unmutated_shared : bounds (legal (SHARED 3)) cost (shared 3).
Proof. intros t m l Hm. apply shared_exact; auto. Qed.

(* t steps in m slots by the schedule l contradict it *)
Ltac refute t m l := let H := fresh in intro H; specialize (H t m l ltac:(auto) ltac:(vm_compute; reflexivity));
  apply Nat.leb_le in H; vm_compute in H; discriminate H.

(* ---------------------------------------------------------------- statements *)

(* 3 steps in 2 slots: 5 forwards *)
Definition three_in_two := [Advance 0 1; StoreHidden 1; Advance 1 2; Record 2; Backpropagate 2; Restore 1; Record 1;
  Backpropagate 1;
  DropHidden 1; Restore 0; Record 0; Backpropagate 0; DropHidden 0].

(* 1. the machine has a slot more than the recurrence *)
Example slot_more_is_false : ~ bounds (fun m => legal HSM (m + 1)) cost hsm.
Proof. refute 3 1 three_in_two. Qed.
(* 2. the bound is one higher *)
Example bound_plus_one_is_false : ~ bounds (legal HSM) cost (fun t m => hsm t m + 1).
Proof. refute 3 2 three_in_two. Qed.
(* 3. ISM with as many slots as its recurrence counts, the paper's reading *)
Example ism_with_m_slots_is_false : ~ bounds (legal ISM) cost ism.
Proof. refute 2 1 [Record 0; StoreInternal 0; Record 1; Backpropagate 1; LoadInternal 0; Backpropagate 0]. Qed.
(* 4. the bound of schedules that keep the start, R, for those that may drop it *)
Example kept_for_all_is_false : ~ bounds (legal (SEPARATE 2)) cost (msm_plus_kept 2).
Proof. refute 2 2 [Record 0; DropHidden 0; StoreInternal 0; Record 1; Backpropagate 1; LoadInternal 0;
  Backpropagate 0]. Qed.
(* 5. HSM's bound for schedules that store internal states as well *)
Example hsm_for_mixed_is_false : ~ bounds (legal (SEPARATE 2)) cost hsm.
Proof. refute 2 2 [Record 0; DropHidden 0; StoreInternal 0; Record 1; Backpropagate 1; LoadInternal 0;
  Backpropagate 0]. Qed.

(* ---------------------------------------------------------------- accounting *)

(* 6. a recorded forward is free *)
Example free_recording_is_false : ~ bounds (legal HSM) (fun l => cost l - recorded l) hsm.
Proof. refute 1 1 [Record 0; Backpropagate 0]. Qed.
(* 7. an advance costs one forward, however long *)
Definition jumps (l : list act) := length (filter (fun a => match a with Advance _ _ | Record _ => true
  | _ => false end) l).
(* three steps in one slot: five jumps, six forwards *)
Example jumps_are_false : ~ bounds (legal HSM) jumps hsm.
Proof.
  refute 3 1 [Advance 0 2; Record 2; Backpropagate 2; Restore 0; Advance 0 1; Record 1; Backpropagate 1; Restore 0;
    Record 0; Backpropagate 0].
Qed.
(* 8. only what is run again counts *)
Example first_pass_free_is_false : ~ forall t m l, 1 <= m -> legal HSM m t l = true -> hsm t m <= cost l - t.
Proof. refute 1 1 [Record 0; Backpropagate 0]. Qed.

(* ---------------------------------------------------------------- policies *)

(* 9. an internal state takes a slot less *)
Example lighter_internal_state_is_false : ~ bounds (legal (SEPARATE (3 - 1))) cost (msm_plus 3).
Proof. refute 2 2 [Record 0; DropHidden 0; StoreInternal 0; Record 1; Backpropagate 1; LoadInternal 0;
  Backpropagate 0]. Qed.
(* 10. hidden states take no slot *)
Definition WEIGHTLESS := Policy true false false (fun _ _ _ => 0).
(* the two-slot schedule then fits in one *)
Example weightless_hidden_states_are_false : ~ bounds (legal WEIGHTLESS) cost hsm.
Proof. refute 3 1 three_in_two. Qed.
(* 11. a stored internal state holds its input, and the slot is not charged *)
Definition INPUT_FREE alpha := Policy true true true (fun h o i =>
  (if h || o then 1 else 0) + (if o then alpha - 2 else 0)).
(* the start is dropped, and lives on in the internal state for nothing *)
Example input_free_is_false : ~ bounds (legal (INPUT_FREE 2)) cost (shared 2).
Proof. refute 2 1 [Record 0; DropHidden 0; StoreInternal 0; Record 1; Backpropagate 1; LoadInternal 0;
  Backpropagate 0]. Qed.
(* 12. the output is not charged *)
Definition OUTPUT_FREE alpha := Policy true true false (fun h o i =>
  (if h || i then 1 else 0) + (if o then alpha - 2 else 0)).
(* the start and the internal state share one slot *)
Example output_free_is_false : ~ bounds (legal (OUTPUT_FREE 2)) cost (shared 2).
Proof. refute 2 1 [Record 0; StoreInternal 0; Record 1; Backpropagate 1; LoadInternal 0; Backpropagate 0]. Qed.

(* ---------------------------------------------------------------- the machine *)

(* the machine with another program for an action *)
Section Machine.
Variable pol : policy.
Variable ex : nat -> st -> act -> option st.
(* a stream in m slots, by that program *)
Fixpoint execute_by hi m s (l : list act) := match l with [] => Some s | a :: r =>
  match ex hi s a with Some s1 => if room pol hi s1 <=? m then execute_by hi m s1 r else None | None => None end end.
(* a legal schedule, by that program *)
Definition legal_by m t (l : list act) := match execute_by t m (init 0 t) l with Some s => lft s =? 0
  | None => false end.
End Machine.
(* with its own program it is the machine *)
Theorem unmutated_machine : forall pol m t l, legal_by pol (exec pol) m t l = legal pol m t l.
Proof.
  intros. unfold legal_by, legal. replace (execute_by pol (exec pol) t m (init 0 t) l)
    with (execute pol t m (init 0 t) l); auto.
  generalize (init 0 t). induction l as [|a l IH]; intros s; simpl; auto. destruct (exec pol t s a); auto. rewrite IH.
  auto.
Qed.

(* 13. any position can be restored *)
Definition restore_anything pol hi s a := match a with
  | Restore q => guard (idle s) (mk (Some q) None (hid s) (int s) (lft s)) | _ => exec pol hi s a end.
(* the last steps are reached without running to them *)
Example restore_anything_is_false : ~ bounds (legal_by HSM (restore_anything HSM)) cost hsm.
Proof.
  refute 3 1 [Advance 0 2; Record 2; Backpropagate 2; Restore 1; Record 1; Backpropagate 1; Restore 0; Record 0;
    Backpropagate 0].
Qed.
(* 14. any position can be stored, run to or not *)
Definition store_anything pol hi s a := match a with
  | StoreHidden q => guard (negb (hid s q)) (mk (pos s) (core s) (add (hid s) q) (int s) (lft s))
    | _ => exec pol hi s a end.
(* a state that was never computed is stored *)
Example store_anything_is_false : ~ bounds (legal_by HSM (store_anything HSM)) cost hsm.
Proof.
  refute 2 2 [StoreHidden 1; Restore 1; Record 1; Backpropagate 1; Restore 0; Record 0; Backpropagate 0].
Qed.
(* 15. steps go backward in any order, so that one can stand for another *)
Definition any_order pol hi s a := match a with
  | Backpropagate p => guard (is (core s) p && (0 <? lft s)) (mk None None (hid s) (int s) (lft s - 1))
    | _ => exec pol hi s a end.
(* step 0 goes backward twice, step 1 never *)
Example backward_out_of_order_is_false : ~ bounds (legal_by HSM (any_order HSM)) cost hsm.
Proof. refute 2 1 [Record 0; Backpropagate 0; Restore 0; Record 0; Backpropagate 0]. Qed.
(* 16. a step goes backward without its internal state *)
Definition without_core pol hi s a := match a with
  | Backpropagate p => guard (lft s =? S p) (mk None None (hid s) (int s) p) | _ => exec pol hi s a end.
(* no forward at all *)
Example backward_without_core_is_false : ~ bounds (legal_by HSM (without_core HSM)) cost hsm.
Proof. refute 1 1 [Backpropagate 0]. Qed.
(* 17. any internal state can be loaded *)
Definition load_anything pol hi s a := match a with
  | LoadInternal p => guard (idle s) (mk (Some (S p)) (Some p) (hid s) (int s) (lft s)) | _ => exec pol hi s a end.
(* no forward at all *)
Example load_anything_is_false : ~ bounds (legal_by (SEPARATE 3) (load_anything (SEPARATE 3))) cost (msm_plus 3).
Proof. refute 1 1 [LoadInternal 0; Backpropagate 0]. Qed.
(* 18. an advance starts anywhere *)
Definition advance_anywhere pol hi s a := match a with
  | Advance p q => guard (idle s && (p <? q) && (q <=? hi)) (mk (Some q) None (hid s) (int s) (lft s))
    | _ => exec pol hi s a end.
(* the first advance skips a step *)
Example advance_from_anywhere_is_false : ~ bounds (legal_by HSM (advance_anywhere HSM)) cost hsm.
Proof.
  refute 3 1 [Advance 1 2; Record 2; Backpropagate 2; Restore 0; Advance 0 1; Record 1; Backpropagate 1; Restore 0;
    Record 0; Backpropagate 0].
Qed.

(* ---------------------------------------------------------------- recurrences: too low to be reached, or too high to
   be a bound *)

(* a value below the optimum is not reached, one above it is no bound *)
Lemma other_value : forall pol m t c k, optimum pol m t c -> k <> c -> ~ optimum pol m t k.
Proof. intros pol m t c k ((l & A & B) & D) N ((s & E & F) & G). apply complete_legal in A, E. specialize (D s E).
specialize (G l A). lia. Qed.
Ltac wrong T t m := let H := fresh in intro H; specialize (H t m ltac:(auto));
  revert H; eapply other_value; [apply T; auto | vm_compute; discriminate].

(* 19. HSM, the right part with all m slots *)
Fixpoint hsm_right fuel t m := match fuel with 0 => 0 | S k =>
  if t <=? 1 then t else if m <=? 1 then t * (t + 1) / 2
  else least (t - 1) (fun y => y + hsm_right k y m + hsm_right k (t - y) m) end.
(* that recurrence is too low *)
Example right_part_with_all_slots_is_false : ~ forall t m, 1 <= m -> optimum HSM m t (hsm_right (t + m) t m).
Proof. wrong hsm_exact 6 2. Qed.
(* 20. HSM, the left part with a slot less *)
Fixpoint hsm_left fuel t m := match fuel with 0 => 0 | S k =>
  if t <=? 1 then t else if m <=? 1 then t * (t + 1) / 2
  else least (t - 1) (fun y => y + hsm_left k y (m - 1) + hsm_left k (t - y) (m - 1)) end.
(* and this one too high *)
Example left_part_with_a_slot_less_is_false : ~ forall t m, 1 <= m -> optimum HSM m t (hsm_left (t + m) t m).
Proof. wrong hsm_exact 6 2. Qed.
(* 21. MSM+ without RELEASE *)
Example without_release_is_false : ~ forall t m, 1 <= m -> optimum (SEPARATE 2) m t (msm_plus_kept 2 t m).
Proof. wrong msm_plus_exact 2 2. Qed.
(* 22. MSM+ at another alpha *)
Example another_alpha_is_false : ~ forall t m, 1 <= m -> optimum (SEPARATE 2) m t (msm_plus 3 t m).
Proof. wrong msm_plus_exact 2 2. Qed.
(* 23. (10) for separate storage *)
Example shared_for_separate_is_false : ~ forall t m, 1 <= m -> optimum (SEPARATE 2) m t (shared 2 t m).
Proof. wrong msm_plus_exact 3 3. Qed.

(* ---------------------------------------------------------------- MSM+ solved *)

(* 24. the stretches a step longer *)
Example longer_stretch_is_false : ~ forall t m, 1 <= m ->
  Stretches.start 2 1 2 m <= t <= S (Stretches.reach 2 1 2 m) ->
  msm_plus 2 t m + Stretches.saved 2 1 2 m + Stretches.extra 2 1 2 m t = 2 * t.
Proof.
  intro H. specialize (H 5 2 ltac:(auto) ltac:(split; apply Nat.leb_le; reflexivity)). vm_compute in H. discriminate H.
Qed.
(* 25. its hidden states a step later: 7 steps in 2 slots *)
Example later_split_is_false : ~ forall l t m, Stretches.start 2 l 3 m < t <= Stretches.reach 2 l 3 m ->
  let y := S (Stretches.split 2 l 3 t m) in
  separate 2 false t m = y + separate 2 false y m + separate 2 false (t - y) (m - 1).
Proof.
  intro H. specialize (H 1 7 2 ltac:(split; [apply Nat.ltb_lt | apply Nat.leb_le]; reflexivity)). vm_compute in H.
  discriminate H.
Qed.
