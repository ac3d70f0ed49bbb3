(* The same with one state's delay: the newest step's graph keeps the state it started from, so that state can still be
   stored when the next step is seen to exist. The lower bound of Online.v is gone: no excess up to b m 2 steps. *)
From Membptt Require Import Laws Values Hsm Ism Closed Online Restart RestartCost Anypol.

(* as policy, but state t - 1 may still be stored when step t is run *)
Structure delayed_policy m := Dpol {
  dheld : nat -> list nat; dused : nat -> list nat;
  dfits : forall t, 1 <= t -> S (length (dheld t)) <= m;
  dpassed : forall t x, 1 <= t -> In x (dheld t) -> 0 < x < t;
  donly : forall t x, 1 <= t -> In x (dheld (S t)) -> x = t \/ S x = t \/ In x (dheld t);
  dof_held : forall t, 1 <= t -> incl (dused t) (dheld t);
  din_order : forall t, 1 <= t -> rising 0 (dused t) t }.
Arguments dheld {m}. Arguments dused {m}.
(* steps run if the loop ends after t steps *)
Definition donline {m} (P : delayed_policy m) t := evals t m (dused P t).

(* every policy is one *)
Definition weaken m (P : online_policy m) : delayed_policy m.
Proof.
  refine (Dpol m (held P) (used P) (fits m P) (passed m P) _ (of_held m P) (in_order m P)).
  intros t x Ht I. destruct (only_passed m P t x Ht I); auto.
Defined.
(* at the same cost *)
Lemma weaken_same : forall m (P : online_policy m) t, donline (weaken m P) t = online P t. Proof. reflexivity. Qed.

(* what is used fits in the slots *)
Lemma dused_fits : forall m (P : delayed_policy m) t, 1 <= t -> S (length (dused P t)) <= m.
Proof.
  intros. pose proof (dfits m P t H). pose proof (NoDup_incl_length (rising_nodup _ _ _ (din_order m P t H)) (dof_held
    m P t H)). lia.
Qed.
(* nobody does better than HSM *)
Theorem donline_ge_hsm : forall m (P : delayed_policy m) t, 1 <= t -> hsm t m <= donline P t.
Proof.
  intros. pose proof (dused_fits m P t H). destruct (stretch m t ltac:(lia) H) as (q & Q).
  pose proof (excess t m (dused P t) q (din_order m P t H) H0 Q). unfold donline. lia.
Qed.

(* W a step late has no excess up to b m 2 *)
Lemma late_free : forall m t, 1 <= m -> 1 <= t <= b m 2 -> evals t m (W m (t - 1)) = hsm t m.
Proof.
  induction m as [|m IH]; intros t Hm H; [lia|]. destruct m as [|n].
  { simpl (W 1 _). rewrite evals_nil. destruct t; [lia|]. rewrite hsm_one_slot_S. do 2 f_equal. lia. }
  rewrite (b_SS (S n) 1), b_s1 in H.
  assert (G : forall m g, 1 <= m -> 1 <= g <= S m -> hsm g m = 2 * g - 1).
  { intros m' g Hm' Hg. pose proof (on_line m' g 0 Hm') as Lg. rewrite !b_0,
    b_s1 in Lg. specialize (Lg ltac:(lia)). lia. }
  pose proof (b_2 (S n)) as B2.
  destruct (le_lt_dec (t - 1) 1).
  { rewrite W_0, evals_nil by lia. destruct (Nat.eq_dec t 1) as [->|].
    - simpl (1 - 1). rewrite hsm_no_step, hsm_one_step. auto.
    - rewrite !G by lia. lia. }
  destruct (le_lt_dec (t - 1) (S (S n))).
  { rewrite W_a, hop_evals by lia. replace (t - 1 - 1) with ((t - 1) - 1) by lia. rewrite IH by nia.
      rewrite !G by lia. lia. }
  pose proof (on_line (S (S n)) t 1 ltac:(lia) ltac:(rewrite (b_SS (S n) 1), b_s1; lia)) as L. rewrite b_s1 in L.
  destruct (le_lt_dec (t - 1) (2 * S (S n))).
  - rewrite W_b, hop_evals by lia. replace (t - (t - 1 - S n)) with (S (S n)) by lia.
    replace (W (S n) (S n)) with (W (S n) (S (S n) - 1)) by (f_equal; lia). rewrite IH by nia. rewrite !G by lia. lia.
  - rewrite W_c, hop_evals by (rewrite ?(b_SS (S n) 1), ?b_s1; lia).
    replace (t - 1 - (n + 3)) with (t - (n + 3) - 1) by lia.
    rewrite IH by lia. rewrite G by lia.
    assert (H' : b (S n) 1 <= t - (n + 3) <= b (S n) 2) by (rewrite b_s1; lia).
    pose proof (on_line (S n) _ 1 ltac:(lia) H') as L'. rewrite b_s1 in L'. lia.
Qed.
(* as a policy *)
Definition late_W m (Hm : 1 <= m) : delayed_policy m.
Proof.
  assert (R : forall t, 1 <= t -> rising 0 (W m (t - 1)) t).
  { intros t Ht. destruct (Nat.eq_dec t 1) as [->|]. { rewrite W_0 by lia. simpl. lia. }
    replace t with (S (t - 1)) at 2 by lia. apply rising_S, W_rising. lia. }
  refine (Dpol m (fun t => W m (t - 1)) (fun t => W m (t - 1)) _ _ _ _ R).
  - intros. pose proof (W_fits m (t - 1)). lia.
  - intros t x Ht I. apply (rising_in _ _ _ _ (R t Ht) I).
  - intros t x Ht I. replace (S t - 1) with t in I by lia. destruct (Nat.eq_dec t 1) as [->|].
    { rewrite W_0 in I by lia. destruct I. }
    replace t with (S (t - 1)) in I by lia. apply (W_next m (t - 1) ltac:(lia)) in I. destruct I as [->|I]; auto.
    right; left. lia.
  - intros t _ x I. exact I.
Defined.

(* no excess up to b m 2 = (m + 1)(m + 2)/2 steps, where every policy that decides at once has some *)
Theorem delay_is_free : forall m, 2 <= m ->
  (exists D : delayed_policy m, forall t, 1 <= t <= b m 2 -> donline D t = hsm t m) /\
  (forall P : online_policy m, exists t, 1 <= t <= b m 2 /\ hsm t m < online P t).
Proof.
  intros m Hm. split.
  - exists (late_W m ltac:(lia)). intros. unfold donline. simpl. apply late_free; lia.
  - intros P. destruct (some_excess m P Hm) as (t & A & B). exists t. pose proof (b_2 m). split; [nia | lia].
Qed.
