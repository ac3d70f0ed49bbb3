(* The best ratio for few slots: the budget rule, run by computation up to b m q0 steps, then restarted. *)
From Membptt Require Import Laws Values Hsm Ism Closed Online Restart RestartCost Anypol.
Require Import NArith.

Local Notation nat_ := N.to_nat.
Local Arguments b : simpl never.
Local Arguments hsm : simpl never.

(* ---------------------------------------------------------------- HSM in binary, by tables *)

(* partial sums: row s + 1 of b from row s *)
Fixpoint psum (acc : N) (l : list N) : list N := match l with [] => [] | x :: r => let a :=
  N.add acc x in a :: psum a r end.
(* binomial(s + q, s) for q < Q *)
Fixpoint row (s Q : nat) : list N := match s with 0 => repeat 1%N Q | S s' => psum 0 (row s' Q) end.
(* l is row s from column q on *)
Fixpoint col s q (l : list N) := match l with [] => True | x :: r => nat_ x = b s q /\ col s (S q) r end.

(* a row from the one before, by sums *)
Lemma col_psum : forall l s q acc, nat_ acc = b (S s) q -> col s (S q) l -> col (S s) (S q) (psum acc l).
Proof.
  induction l; intros; simpl in *; auto. destruct H0 as (H0 & H1).
  assert (E : nat_ (acc + a) = b (S s) (S q)) by (rewrite N2Nat.inj_add, b_SS; lia). split; auto.
Qed.
(* a row is right *)
Lemma col_row : forall s Q, col s 0 (row s Q).
Proof.
  induction s; intros.
  - assert (forall q, col 0 q (repeat 1%N Q)); [|apply H]. induction Q; simpl; auto.
  - cbn [row]. specialize (IHs Q). destruct (row s Q); simpl in *; auto. destruct IHs as (A & B).
    rewrite b_0 in A. split; [rewrite b_0; auto|]. apply col_psum; auto.
Qed.

(* k: slope; rs: row s from the end of the stretch; rS: row s + 1. What to say if the rows are too short: d *)
Fixpoint look (d L k : N) (rs rS : list N) : N := match rs, rS with
  | r :: rs', h :: rS' => if N.leb L r then N.sub (N.mul k L) h else look d L (N.succ k) rs' rS'
  | _, _ => d end.
(* for m, m - 1, .. slots: two rows each *)
Definition tables := list (list N * list N).
(* those tables *)
Fixpoint tabs m Q : tables := match m with 0 => [] | S m' => match m' with 0 => [] | _ =>
  (tl (row m Q), row (S m) Q) :: tabs m' Q end end.
(* L (L + 1) / 2 *)
Definition triangular (L : N) := N.div2 (N.mul L (N.succ L)).
(* an upper bound of HSM, by the tables *)
Definition upper (L : N) (T : tables) := match T with [] => triangular L | (rs, rS) :: _ =>
  if N.eqb L 0 then 0%N else look (triangular L) L 2 rs rS end.
(* and a lower bound *)
Definition lower (L : N) (T : tables) := match T with [] => 0%N | (rs, rS) :: _ =>
  if N.eqb L 0 then 0%N else look 0 L 2 rs rS end.

(* the tables are right *)
Fixpoint tabs_ok (T : tables) m := match T with [] => True | (rs, rS) :: T' => col m 1 rs /\ col (S m) 0 rS /\
  tabs_ok T' (m - 1) end.
(* they are *)
Lemma tabs_are_ok : forall m Q, tabs_ok (tabs m Q) m.
Proof.
  induction m; intros. simpl; auto. destruct m. simpl; auto. cbn [tabs tabs_ok] in *. split; [|split].
  - pose proof (col_row (S (S m)) Q) as C. destruct (row (S (S m)) Q); simpl in *; auto. apply C.
  - apply col_row.
  - replace (S (S m) - 1) with (S m) by lia. apply IHm.
Qed.

(* HSM is no more than in one slot *)
Lemma hsm_triangular : forall m t, 1 <= m -> hsm t m <= t * (t + 1) / 2.
Proof.
  intros m t H. induction H. rewrite hsm_one_slot; auto. pose proof (hsm_slot m t H). lia.
Qed.
(* L (L + 1) / 2 in binary and in unary *)
Lemma triangular_nat : forall L, nat_ (triangular L) = nat_ L * (nat_ L + 1) / 2.
Proof.
  intros. unfold triangular. rewrite N.div2_div, N2Nat.inj_div, N2Nat.inj_mul, N2Nat.inj_succ. simpl (nat_ 2).
  f_equal. lia.
Qed.
(* looking up finds an upper bound *)
Lemma look_upper : forall rs rS d s q L, 1 <= s -> col s (S q) rs -> col (S s) q rS -> b s q <= nat_ L ->
  hsm (nat_ L) s <= nat_ d ->
  hsm (nat_ L) s <= nat_ (look d L (N.of_nat (q + 2)) rs rS).
Proof.
  induction rs; intros rS d s q L Hs A B HL D; simpl; auto. destruct rS; auto. simpl in A, B.
  destruct A as (A & A'), B as (B & B').
  destruct (N.leb_spec L a).
  - rewrite N2Nat.inj_sub, N2Nat.inj_mul, Nat2N.id. pose proof (on_line s (nat_ L) q Hs ltac:(lia)). lia.
  - replace (N.succ (N.of_nat (q + 2))) with (N.of_nat (S q + 2)) by lia. apply IHrs; auto. lia.
Qed.
(* and a lower one *)
Lemma look_lower : forall rs rS s q L, 1 <= s -> col (S s) q rS ->
  nat_ (look 0 L (N.of_nat (q + 2)) rs rS) <= hsm (nat_ L) s.
Proof.
  induction rs; intros rS s q L Hs B; simpl; [lia|]. destruct rS; [simpl; lia|]. simpl in B. destruct B as (B & B').
  destruct (N.leb L a).
  - rewrite N2Nat.inj_sub, N2Nat.inj_mul, Nat2N.id. pose proof (above s (nat_ L) q Hs). lia.
  - replace (N.succ (N.of_nat (q + 2))) with (N.of_nat (S q + 2)) by lia. apply IHrs; auto.
Qed.
(* the upper bound is one *)
Lemma upper_ok : forall T m L, 1 <= m -> tabs_ok T m -> hsm (nat_ L) m <= nat_ (upper L T).
Proof.
  intros T m L Hm H. pose proof (hsm_triangular m (nat_ L) Hm) as Tr. rewrite <- triangular_nat in Tr.
  destruct T as [|(rs & rS) T]; auto. simpl in H. destruct H as (A & B & _). unfold upper.
  destruct (N.eqb_spec L 0) as [->|].
  - simpl. rewrite hsm_no_step. auto.
  - apply (look_upper rs rS (triangular L) m 0 L); auto. rewrite b_0. lia.
Qed.
(* and so is the lower bound *)
Lemma lower_ok : forall T m L, 1 <= m -> tabs_ok T m -> nat_ (lower L T) <= hsm (nat_ L) m.
Proof.
  intros T m L Hm H. destruct T as [|(rs & rS) T]. simpl; lia. simpl in H. destruct H as (A & B & _).
  unfold lower. destruct (N.eqb_spec L 0) as [->|]. simpl; lia. apply (look_lower rs rS m 0 L); auto.
Qed.

(* evaluations, in binary *)
Fixpoint finN (a : N) (h : list N) (t : N) (T : tables) : N := match h with
  | [] => upper (N.sub (N.pred t) a) T
  | x :: h' => N.add (upper (N.sub x a) T) (finN x h' t (tl T)) end.
(* steps run, in binary, from above *)
Definition evalsN t T h := N.add t (finN 0 h t T).
(* the gaps are bounded *)
Lemma finN_ok : forall h a t T m, length h < m -> tabs_ok T m ->
  fin (nat_ a) (map nat_ h) (nat_ t) m <= nat_ (finN a h t T).
Proof.
  induction h; intros a0 t T m Hl H; cbn [map fin finN length] in *.
  - pose proof (upper_ok T m (N.sub (N.pred t) a0) ltac:(lia) H) as U. rewrite N2Nat.inj_sub, N2Nat.inj_pred in U.
    replace (nat_ t - 1 - nat_ a0) with (Nat.pred (nat_ t) - nat_ a0) by lia. auto.
  - pose proof (upper_ok T m (N.sub a a0) ltac:(lia) H) as U. rewrite N2Nat.inj_sub in U. rewrite N2Nat.inj_add.
    assert (tabs_ok (tl T) (m - 1)). { destruct T as [|(rs & rS) T]; simpl in *; auto. tauto. }
    specialize (IHh a t (tl T) (m - 1) ltac:(lia) H0). lia.
Qed.
(* and so is the whole *)
Lemma evalsN_ok : forall h t T m, length h < m -> tabs_ok T m -> evals (nat_ t) m (map nat_ h) <= nat_ (evalsN t T h).
Proof. intros. unfold evals, evalsN. rewrite N2Nat.inj_add. pose proof (finN_ok h 0 t T m H H0). simpl in H1. lia. Qed.

(* ---------------------------------------------------------------- the budget rule *)

Section Rule.
(* delta 0: what is stored counts at once; 1: one step later (Deferred.v) *)
Variables (m : nat) (num den ahead : N) (late : bool) (delta : N).
Hypothesis Hm : 2 <= m.

(* the list with any one state left out *)
Fixpoint withoutN (h : list N) : list (list N) := match h with [] => [] | x :: r => r :: map (cons x) (withoutN r) end.
(* the least key first, the cost ahead second; the first of equals *)
Fixpoint pick (T : tables) (t c1 : N) (best : list N) (k1 k2 : N) (cs : list (list N)) : list N :=
  match cs with | [] => best
  | h :: cs' => let a1 := N.max c1 (N.mul den (evalsN t T h)) in let a2 := evalsN (N.add t ahead) T h in
      if orb (N.ltb a1 k1) (andb (N.eqb a1 k1) (N.ltb a2 k2)) then pick T t c1 h a1 a2 cs' else pick T t c1 best k1 k2
        cs' end.
(* what is held after t + 1 steps, from what was held after t *)
Definition nxt (T : tables) (t : N) (h : list N) : list N := if length h <? m - 1 then h ++ [t] else
  let cs := withoutN (h ++ [t]) in match (if late then rev cs else cs) with [] => h
  | c :: cs' => let t' := N.add (N.succ t) delta in let c1 := N.mul num (lower t' T) in
      pick T t' c1 c (N.max c1 (N.mul den (evalsN t' T c))) (evalsN (N.add t' ahead) T c) cs' end.
(* held after S n steps *)
Fixpoint holdN T (n : nat) : list N := match n with 0 => [] | S n' => nxt T (N.of_nat n) (holdN T n') end.
(* the ratio is kept for k lengths from t on *)
Fixpoint chk T (k : nat) (t : N) (h : list N) : bool := match k with 0 => true | S k' =>
  if N.leb (N.mul den (evalsN (N.add t delta) T h)) (N.mul num (lower (N.add t delta) T)) then chk T k' (N.succ t) (nxt
    T t h) else false end.

(* what is picked is among the choices *)
Lemma pick_in : forall cs T t c1 best k1 k2, In (pick T t c1 best k1 k2 cs) (best :: cs).
Proof.
  induction cs; intros; cbn [pick]. left; auto. destruct (_ || _).
  - destruct (IHcs T t c1 a (N.max c1 (den * evalsN t T a)) (evalsN (t + ahead) T a)); [right; left | right; right];
      auto.
  - destruct (IHcs T t c1 best k1 k2); [left | right; right]; auto.
Qed.
(* the next set: one more state, or one of them for another *)
Lemma nxt_in : forall T t h, (length h < m - 1 /\ nxt T t h = h ++ [t]) \/ (m - 1 <= length h /\
  In (nxt T t h) (withoutN (h ++ [t]))).
Proof.
  intros. unfold nxt. destruct (Nat.ltb_spec (length h) (m - 1)); auto. right. split; auto.
  destruct late.
  - destruct (rev (withoutN (h ++ [t]))) eqn:E.
    + exfalso. apply (f_equal (@length _)) in E. rewrite rev_length in E. destruct h; simpl in *; lia.
    + apply in_rev. rewrite E. apply pick_in.
  - destruct (withoutN (h ++ [t])) eqn:E. destruct h; discriminate. apply pick_in.
Qed.
(* the same in unary *)
Lemma withoutN_nat : forall h g, In g (withoutN h) -> In (map nat_ g) (without (map nat_ h)).
Proof.
  induction h; simpl; intros; auto. destruct H as [->|H]; auto. right. apply in_map_iff in H.
  destruct H as (g' & <- & H).
  simpl. apply in_map. auto.
Qed.
(* nothing new *)
Lemma without_incl : forall h g x, In g (without h) -> In x g -> In x h.
Proof.
  induction h; simpl; intros. tauto. destruct H as [->|H]; auto. apply in_map_iff in H. destruct H as (g' & <- & H).
  destruct H0 as [->|H0]; eauto.
Qed.

Variable T : tables.
(* what the rule holds after n steps beside state 0 *)
Definition hold n := map nat_ (holdN T n).
(* step by step *)
Lemma hold_S : forall n, (length (hold n) < m - 1 /\ hold (S n) = hold n ++ [S n]) \/
  (m - 1 <= length (hold n) /\ In (hold (S n)) (without (hold n ++ [S n]))).
Proof.
  intros. unfold hold. rewrite map_length. cbn [holdN].
  assert (E : map nat_ (holdN T n) ++ [S n] = map nat_ (holdN T n ++ [N.of_nat (S n)])) by (rewrite map_app; cbn [map];
    rewrite Nat2N.id; auto).
  destruct (nxt_in T (N.of_nat (S n)) (holdN T n)) as [(A & B)|(A & B)].
  - left. split; auto. rewrite B. auto.
  - right. split; auto. rewrite E. apply withoutN_nat. auto.
Qed.
(* in order, and within the slots *)
Lemma hold_ok : forall n, rising 0 (hold n) (S n) /\ length (hold n) <= m - 1.
Proof.
  induction n. { simpl. lia. } destruct IHn as (A & B). apply rising_app in A.
  destruct (hold_S n) as [(C & D)|(C & D)].
  - rewrite D, app_length. simpl length. split; auto. lia.
  - destruct (without_rising _ _ _ _ A D) as (E & F). rewrite app_length in F. simpl length in F. split; auto. lia.
Qed.
(* nothing comes back *)
Lemma hold_next : forall n x, In x (hold (S n)) -> x = S n \/ In x (hold n).
Proof.
  intros n x I. assert (In x (hold n ++ [S n])).
  { destruct (hold_S n) as [(C & D)|(C & D)]. rewrite D in I; auto. eapply without_incl; eauto. }
  apply in_app_or in H. destruct H as [H|[H|[]]]; auto.
Qed.
(* so it is a policy *)
Definition rule : online_policy m.
Proof.
  refine (Pol m (fun t => hold (t - 1)) (fun t => hold (t - 1)) _ _ _ _ _).
  - intros. pose proof (hold_ok (t - 1)). lia.
  - intros t x Ht I. destruct (hold_ok (t - 1)) as (R & _). replace (S (t - 1)) with t in R by lia.
    apply (rising_in _ _ _ _ R I).
  - intros t x Ht I. replace (S t - 1) with (S (t - 1)) in I by lia. apply hold_next in I.
    replace (S (t - 1)) with t in I by lia. auto.
  - intros t _ x I. exact I.
  - intros t Ht. pose proof (hold_ok (t - 1)). replace (S (t - 1)) with t in H by lia. tauto.
Defined.

(* what was checked by computation holds for those lengths *)
Lemma chk_ok : tabs_ok T m -> forall k n, chk T k (N.of_nat (S n)) (holdN T n) = true ->
  forall t, S n <= t < S n + k -> nat_ den * evals (t + nat_ delta) m (hold (t - 1)) <= nat_ num * hsm (t + nat_ delta)
    m.
Proof.
  intros HT. induction k; intros n H t Ht. lia. cbn [chk] in H. remember (N.add (N.of_nat (S n)) delta) as u eqn:Eu.
  destruct (N.leb_spec (N.mul den (evalsN u T (holdN T n))) (N.mul num (lower u T))) as [L|]; [|discriminate].
  destruct (Nat.eq_dec t (S n)) as [->|].
  - replace (S n - 1) with n by lia.
    pose proof (hold_ok n) as (_ & HL). unfold hold in HL. rewrite map_length in HL.
    assert (U : nat_ u = S n + nat_ delta) by (subst u; rewrite N2Nat.inj_add, Nat2N.id; auto). rewrite <- U.
    pose proof (evalsN_ok (holdN T n) u T m ltac:(lia) HT) as E. pose proof (lower_ok T m u ltac:(lia) HT) as F.
    assert (L' : nat_ den * nat_ (evalsN u T (holdN T n)) <= nat_ num * nat_ (lower u T)).
    { rewrite <- !N2Nat.inj_mul. lia. }
    apply (Nat.mul_le_mono_l _ _ (nat_ den)) in E. apply (Nat.mul_le_mono_l _ _ (nat_ num)) in F.
    eapply Nat.le_trans; [|eapply Nat.le_trans; [exact L' | exact F]]. exact E.
  - apply (IHk (S n)); [|lia]. replace (N.of_nat (S (S n))) with (N.succ (N.of_nat (S n))) by lia. auto.
Qed.
End Rule.

(* a binomial from its table *)
Lemma b_N : forall s q Q x, nth_error (row s Q) q = Some x -> b s q = nat_ x.
Proof.
  intros s q Q x. assert (forall l p i, col s p l -> nth_error l i = Some x -> b s (p + i) = nat_ x) as G.
  { induction l; intros p i C E. destruct i; discriminate. simpl in C. destruct C as (C & D). destruct i; simpl in E.
    - injection E as ->. rewrite Nat.add_0_r. auto.
    - rewrite <- (IHl (S p) i D E). f_equal. lia. }
  intros E. apply (G (row s Q) 0 q); auto. apply col_row.
Qed.

(* up to B = b m q0 by computation, then for every t *)
Theorem best : forall m Q num den ahead late q0 B, 2 <= m -> nth_error (row m Q) q0 = Some B ->
  chk m num den ahead late 0 (tabs m Q) (nat_ B) 1 [] = true ->
  nat_ den * ((q0 + 2) * m + 2) <= nat_ num * ((q0 + 1) * m + 1) ->
  exists P : online_policy m, forall t, 1 <= t -> nat_ den * online P t <= nat_ num * hsm t m.
Proof.
  intros m Q num den ahead late q0 B H E C G. apply b_N in E. rewrite <- E in C.
  apply (for_every_t m q0 (nat_ num) (nat_ den) (rule m num den ahead late 0 H (tabs m Q))); auto.
  intros t Ht. pose proof (chk_ok m num den ahead late 0 H (tabs m Q) (tabs_are_ok m Q) (b m q0) 0 C t ltac:(lia)) as R.
  change (nat_ 0) with 0 in R. rewrite Nat.add_0_r in R. exact R.
Qed.
Ltac computed m Q num den ahead late q0 B :=
  apply (best m Q num den ahead late q0 B); [lia | vm_compute;
    reflexivity | vm_cast_no_check (eq_refl true) | vm_compute; lia].

(* for every t: two slots 41/35, three 12/11, four 16/15; five and six are in Five.v and Six.v *)
Theorem two_slots : exists P : online_policy 2, forall t, 1 <= t -> 35 * online P t <= 41 * hsm t 2.
Proof. computed 2 60 41%N 35%N 3%N false 8 45%N. Qed.
(* three slots *)
Theorem three_slots : exists P : online_policy 3, forall t, 1 <= t -> 11 * online P t <= 12 * hsm t 3.
Proof. computed 3 60 12%N 11%N 3%N false 14 680%N. Qed.
(* four slots *)
Theorem four_slots : exists P : online_policy 4, forall t, 1 <= t -> 15 * online P t <= 16 * hsm t 4.
Proof. computed 4 150 16%N 15%N 2%N true 18 7315%N. Qed.
