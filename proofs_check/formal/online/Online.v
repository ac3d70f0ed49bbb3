(* Loops of unknown length: hidden states stored in m slots, each only when it is first passed, nothing run again before
   the end is known. The identity of the excess over HSM, the lower bound on every policy, a policy and its ratio. *)
From Membptt Require Import Laws Values Hsm Ism Closed.

(* ---------------------------------------------------------------- binomial(s + q, s) and the lines of HSM *)

(* binomial(s + q, s), by Pascal's rule *)
Fixpoint b (s : nat) : nat -> nat := match s with 0 => fun _ => 1 | S s' =>
  fix g q := match q with 0 => 1 | S q' => g q' + b s' (S q') end end.
(* first column *)
Lemma b_0 : forall s, b s 0 = 1. Proof. destruct s; auto. Qed.
(* Pascal's rule *)
Lemma b_SS : forall s q, b (S s) (S q) = b (S s) q + b s (S q). Proof. reflexivity. Qed.
(* second row *)
Lemma b_1q : forall q, b 1 q = S q.
Proof. induction q; auto. rewrite b_SS, IHq. simpl (b 0 _). lia. Qed.
(* as Closed.v counts *)
Lemma b_beta : forall s q, b (S s) q = beta s (S q).
Proof.
  induction s; intros. { rewrite b_1q. auto. }
  induction q. { rewrite beta_1. auto. }
  rewrite b_SS, IHq, IHs, beta_SS. auto.
Qed.
(* the binomial coefficient *)
Lemma b_bin : forall s q, b s q = bin (s + q) s.
Proof. destruct s; intros. { simpl. destruct q; auto. } rewrite b_beta, beta_bin. f_equal. lia. Qed.
(* it is at least q + 1 *)
Lemma b_ge : forall s q, 1 <= s -> S q <= b s q.
Proof. intros. destruct s; [lia|]. rewrite b_beta. apply beta_ge. Qed.
(* and at least 1 *)
Lemma b_pos : forall s q, 1 <= b s q.
Proof. intros. destruct s; auto. pose proof (b_ge (S s) q ltac:(lia)). lia. Qed.
(* it grows with q *)
Lemma b_up : forall s q, b s q <= b s (S q).
Proof. destruct s; intros. auto. rewrite b_SS. lia. Qed.
(* by any number *)
Lemma b_mono : forall s q q', q <= q' -> b s q <= b s q'.
Proof. induction 1; auto. pose proof (b_up s m). lia. Qed.
(* it grows with s *)
Lemma b_up_s : forall s q, b s q <= b (S s) q.
Proof. intros. destruct q. { rewrite !b_0. auto. } rewrite b_SS. lia. Qed.
(* by any number *)
Lemma b_mono_s : forall s s' q, s <= s' -> b s q <= b s' q.
Proof. induction 1; auto. pose proof (b_up_s m q). lia. Qed.
(* second column *)
Lemma b_s1 : forall s, b s 1 = S s.
Proof. induction s; auto. rewrite b_SS, IHs, b_0. lia. Qed.
(* absorption *)
Lemma b_absorb : forall s q, S q * b s (S q) = S s * b (S s) q.
Proof.
  induction s; intros. { rewrite b_1q. simpl (b 0 _). lia. }
  induction q. { rewrite b_0, b_s1. lia. }
  rewrite (b_SS s (S q)), (b_SS (S s) q). pose proof (IHs (S q)). nia.
Qed.

(* every line lies below HSM *)
Lemma above : forall m t q, 1 <= m -> (q + 2) * t <= hsm t m + b (S m) q.
Proof. intros. rewrite b_beta. replace (q + 2) with (S (S q)) by lia. apply hsm_above_lines. auto. Qed.
(* no fewer forwards than steps *)
Lemma above_0 : forall m t, 1 <= m -> t <= hsm t m.
Proof. intros. pose proof (hsm_above_lines m H t 0). rewrite beta_m0 in *. lia. Qed.
(* and on its stretch it is HSM *)
Lemma on_line : forall m t q, 1 <= m -> b m q <= t <= b m (S q) -> (q + 2) * t = hsm t m + b (S m) q.
Proof.
  intros. destruct m; [lia|]. rewrite !b_beta in *. replace (q + 2) with (S (S q)) by lia. apply hsm_on_line. auto.
Qed.

(* ---------------------------------------------------------------- the model *)

(* state 0 is stored, and those of r beside it; a: the last one passed, t: the end. The newest step's graph is held. *)
Fixpoint fin (a : nat) (r : list nat) (t m : nat) : nat := match r with
  | [] => hsm (t - 1 - a) m
  | x :: r' => hsm (x - a) m + fin x r' t (m - 1) end.
(* steps run: t on the way, and the gaps completed, each with the slots that are free by then *)
Definition evals t m r := t + fin 0 r t m.
(* a < the first of r < ... < the last of r < t *)
Fixpoint rising a (r : list nat) t := match r with [] => a < t | x :: r' => a < x /\ rising x r' t end.

(* A policy in m slots. held t: the states stored beside state 0 when t steps have been run (state t - 1, the input of
   the newest step, is the last that can be among them); used t: those of them kept if the loop turns out to end there.
   Nothing of the future is known: held t is the same whatever comes after. *)
Structure online_policy m := Pol {
  held : nat -> list nat; used : nat -> list nat;
  fits : forall t, 1 <= t -> S (length (held t)) <= m;
  passed : forall t x, 1 <= t -> In x (held t) -> 0 < x < t;
  only_passed : forall t x, 1 <= t -> In x (held (S t)) -> x = t \/ In x (held t);
  of_held : forall t, 1 <= t -> incl (used t) (held t);
  in_order : forall t, 1 <= t -> rising 0 (used t) t }.
Arguments held {m}. Arguments used {m}.
(* steps run if the loop ends after t steps *)
Definition online {m} (P : online_policy m) t := evals t m (used P t).

(* the ends are apart *)
Lemma rising_lt : forall r a t, rising a r t -> a < t.
Proof. induction r; simpl; intros; auto. destruct H as (H & G). apply IHr in G. lia. Qed.
(* what is between *)
Lemma rising_in : forall r a t x, rising a r t -> In x r -> a < x < t.
Proof.
  induction r; simpl; intros. tauto. destruct H as (H & G). destruct H0 as [->|I].
  - apply rising_lt in G. lia.
  - destruct (IHr _ _ _ G I). lia.
Qed.
(* nothing twice *)
Lemma rising_nodup : forall r a t, rising a r t -> NoDup r.
Proof.
  induction r; simpl; intros; constructor; destruct H as (H & G); eauto.
  intro I. destruct (rising_in _ _ _ _ G I). lia.
Qed.
(* what is used fits in the slots *)
Lemma used_fits : forall m (P : online_policy m) t, 1 <= t -> S (length (used P t)) <= m.
Proof.
  intros. pose proof (fits m P t H). pose proof (NoDup_incl_length (rising_nodup _ _ _ (in_order m P t H)) (of_held m P
    t H)). lia.
Qed.

(* ---------------------------------------------------------------- the identity *)

(* F_q(L, s): HSM above its line *)
Definition F q L s := hsm L s + beta s q - S q * L.
(* F_q of every gap *)
Fixpoint sumF q a r t m := match r with
  | [] => F q (t - 1 - a) m
  | x :: r' => F q (x - a) m + sumF q x r' t (m - 1) end.
(* beta 1 q + ... + beta n q, beta s q = binomial(s + q, s + 1) *)
Fixpoint tri n q := match n with 0 => 0 | S n' => tri n' q + beta n q end.

(* those sums are binomials less one line *)
Lemma tri_sum : forall n q, tri n q + S q = beta n (S q).
Proof. induction n; intros; auto. cbn [tri]. rewrite beta_SS, <- IHn. lia. Qed.
(* HSM is its line and F *)
Lemma F_eq : forall q L s, 1 <= s -> F q L s + S q * L = hsm L s + beta s q.
Proof. intros. unfold F. pose proof (hsm_above_lines s H L q). lia. Qed.

(* over the gaps *)
Lemma identity_gaps : forall r a t m q, rising a r t -> S (length r) <= m ->
  fin a r t m + tri m q = S q * (t - 1 - a) + sumF q a r t m + tri (m - S (length r)) q.
Proof.
  induction r; intros b0 t m q R L; cbn [fin sumF length rising] in *; (destruct m as [|m]; [lia|]).
  - pose proof (F_eq q (t - 1 - b0) (S m) ltac:(lia)). cbn [tri]. replace (S m - 1) with m by lia. lia.
  - destruct R as (R & R'). pose proof (F_eq q (a - b0) (S m) ltac:(lia)). pose proof (rising_lt _ _ _ R').
    specialize (IHr a t m q R' ltac:(lia)). cbn [tri]. replace (S m - 1) with m by lia.
    replace (S m - S (S (length r))) with (m - S (length r)) by lia.
    assert (S q * (t - 1 - b0) = S q * (a - b0) + S q * (t - 1 - a)) by nia. lia.
Qed.

(* cost above the line q + 1 *)
Theorem identity : forall t m r q, rising 0 r t -> S (length r) <= m ->
  evals t m r + b (S m) q = (q + 2) * t + sumF q 0 r t m + tri (m - S (length r)) q.
Proof.
  intros. pose proof (identity_gaps r 0 t m q H H0). pose proof (rising_lt _ _ _ H). unfold evals.
  rewrite b_beta, <- tri_sum. rewrite Nat.sub_0_r in *.
  assert ((q + 2) * t = t + S q * (t - 1) + S q) by nia. lia.
Qed.

(* and above HSM *)
Theorem excess : forall t m r q, rising 0 r t -> S (length r) <= m -> b m q <= t <= b m (S q) ->
  evals t m r = hsm t m + sumF q 0 r t m + tri (m - S (length r)) q.
Proof. intros. pose proof (identity t m r q H H0). pose proof (on_line m t q ltac:(lia) H1). lia. Qed.

(* nobody does better than HSM *)
Lemma stretch : forall m t, 1 <= m -> 1 <= t -> exists q, b m q <= t <= b m (S q).
Proof.
  intros. assert (forall q, t <= b m (S q) -> exists q, b m q <= t <= b m (S q)) as G.
  { induction q; intros. exists 0. rewrite b_0. lia. destruct (le_lt_dec t (b m (S q))); auto. exists (S q). lia. }
  apply (G t). pose proof (b_ge m (S t) H). lia.
Qed.
(* the excess is never below zero *)
Theorem online_ge_hsm : forall m (P : online_policy m) t, 1 <= t -> hsm t m <= online P t.
Proof.
  intros. pose proof (used_fits m P t H). destruct (stretch m t ltac:(lia) H) as (q & Q).
  pose proof (excess t m (used P t) q (in_order m P t H) H0 Q). unfold online. lia.
Qed.

(* ---------------------------------------------------------------- the lower bound *)

(* the last of a and r *)
Fixpoint lst a (r : list nat) := match r with [] => a | x :: r' => lst x r' end.
(* the last gap's part *)
Lemma sumF_lst : forall r a t m q, F q (t - 1 - lst a r) (m - length r) <= sumF q a r t m.
Proof.
  induction r; intros; cbn [lst sumF length]. rewrite Nat.sub_0_r. auto.
  specialize (IHr a t (m - 1) q). replace (m - 1 - length r) with (m - S (length r)) in * by lia. lia.
Qed.
(* the last is the largest *)
Lemma in_lst : forall r a t x, rising a r t -> In x r -> x <= lst a r.
Proof.
  induction r; simpl; intros. tauto. destruct H as (H & G). destruct H0 as [->|I]; eauto.
  assert (forall r a t, rising a r t -> a <= lst a r) as A.
  { induction r0; simpl; intros; auto. destruct H0. apply IHr0 in H1. lia. }
  eauto.
Qed.
(* it is a or in r *)
Lemma lst_in : forall r a, lst a r = a \/ In (lst a r) r.
Proof. induction r; simpl; intros; auto. destruct (IHr a) as [E|E]; auto. Qed.
(* at q = 1 *)
Lemma tri_1 : forall n, tri n 1 = n.
Proof. induction n; auto. cbn [tri]. rewrite IHn, beta_1. lia. Qed.
(* and above zero *)
Lemma tri_pos : forall n, 1 <= n -> 1 <= tri n 1.
Proof. intros. rewrite tri_1. auto. Qed.

(* no excess between m + 1 and b m 2 = (m + 1)(m + 2)/2 steps: all m slots are used, state t - 1 is not stored *)
Lemma no_excess : forall m t r, 2 <= m -> b m 1 <= t <= b m 2 -> rising 0 r t -> S (length r) <= m ->
  evals t m r <= hsm t m -> S (length r) = m /\ (forall x, In x r -> x < t - 1) /\ F 1 (t - 1 - lst 0 r) 1 = 0.
Proof.
  intros m t r Hm Ht R L E. pose proof (excess t m r 1 R L Ht) as X.
  assert (T : tri (m - S (length r)) 1 = 0) by lia. rewrite tri_1 in T.
  assert (K : S (length r) = m) by lia. pose proof (sumF_lst r 0 t m 1) as Q. replace (m - length r) with 1 in Q by lia.
  assert (Z : F 1 (t - 1 - lst 0 r) 1 = 0) by lia. repeat split; auto.
  intros x I. pose proof (in_lst _ _ _ _ R I). destruct (rising_in _ _ _ _ R I).
  destruct (Nat.eq_dec (lst 0 r) (t - 1)) as [Q'|]. { rewrite Q', Nat.sub_diag in Z. discriminate Z. }
  destruct (lst_in r 0) as [E0|E0]. { lia. } destruct (rising_in _ _ _ _ R E0). lia.
Qed.

(* some excess at one of three lengths *)
Theorem some_excess : forall m (P : online_policy m), 2 <= m -> exists t, m + 1 <= t <= m + 3 /\
  S (hsm t m) <= online P t.
Proof.
  intros m P Hm. unfold online.
  assert (B1 : b m 1 = m + 1) by (rewrite b_s1; lia).
  assert (B2 : m + 3 <= b m 2).
  { destruct m as [|[|m]]; try lia. rewrite b_SS. rewrite (b_s1 (S (S m))), b_SS, b_s1.
    pose proof (b_pos m 2). lia. }
  destruct (le_lt_dec (S (hsm (m + 1) m)) (evals (m + 1) m (used P (m + 1)))). { exists (m + 1). lia. }
  destruct (le_lt_dec (S (hsm (m + 2) m)) (evals (m + 2) m (used P (m + 2)))). { exists (m + 2). lia. }
  destruct (le_lt_dec (S (hsm (m + 3) m)) (evals (m + 3) m (used P (m + 3)))). { exists (m + 3). lia. }
  exfalso.
  assert (U : forall t, m + 1 <= t <= m + 3 -> evals t m (used P t) <= hsm t m ->
              (forall x, In x (used P t) -> x < t - 1) /\ incl (held P t) (used P t) /\
                F 1 (t - 1 - lst 0 (used P t)) 1 = 0).
  { intros t Ht E. destruct (no_excess m t (used P t) Hm ltac:(lia) (in_order m P t ltac:(lia)) (used_fits m P t
    ltac:(lia)) E) as (K & A & Z).
    repeat split; auto. pose proof (fits m P t ltac:(lia)). apply NoDup_length_incl.
    - eapply rising_nodup, (in_order m P t). lia.
    - lia.
    - apply (of_held m P t). lia. }
  destruct (U (m + 1) ltac:(lia) ltac:(lia)) as (A1 & I1 & _).
  destruct (U (m + 2) ltac:(lia) ltac:(lia)) as (A2 & I2 & _).
  destruct (U (m + 3) ltac:(lia) ltac:(lia)) as (A3 & _ & Z).
  assert (H2 : forall x, In x (held P (m + 2)) -> x < m).
  { intros x I. pose proof (A2 x (I2 x I)). replace (m + 2) with (S (m + 1)) in I by lia.
    apply only_passed in I; [|lia]. destruct I as [->|I]; [lia|]. specialize (A1 x (I1 x I)). lia. }
  assert (H3 : forall x, In x (used P (m + 3)) -> x < m).
  { intros x I. specialize (A3 x I). pose proof (of_held m P (m + 3) ltac:(lia) x I) as J.
      replace (m + 3) with (S (m + 2)) in J by lia.
    apply only_passed in J; [|lia]. destruct J as [->|J]; [lia|]. auto. }
  assert (lst 0 (used P (m + 3)) < m). { destruct (lst_in (used P (m + 3)) 0) as [E|E]. lia. auto. }
  pose proof (F_eq 1 (m + 3 - 1 - lst 0 (used P (m + 3))) 1 ltac:(lia)) as Q. rewrite Z, beta_1 in Q.
  remember (m + 3 - 1 - lst 0 (used P (m + 3))) as L. pose proof (hsm_above_lines 1 ltac:(lia) L 2).
  change (beta 1 2) with 3 in *. lia.
Qed.

(* no policy has a ratio below 1 + 1/(2m + 7) *)
Theorem no_policy_below : forall m (P : online_policy m), 2 <= m ->
  exists t, m + 1 <= t <= m + 3 /\ (2 * m + 8) * hsm t m <= (2 * m + 7) * online P t.
Proof.
  intros m P Hm. destruct (some_excess m P Hm) as (t & Ht & E). exists t. split; auto.
  assert (hsm t m <= 2 * m + 7); [|nia].
  assert (B : b m 1 <= t <= b m 2).
  { rewrite b_s1. split; [lia|]. destruct m as [|[|m]]; try lia. rewrite b_SS, (b_s1 (S (S m))), b_SS,
    b_s1. pose proof (b_pos m 2). lia. }
  pose proof (on_line m t 1 ltac:(lia) B). rewrite b_s1 in *. lia.
Qed.
