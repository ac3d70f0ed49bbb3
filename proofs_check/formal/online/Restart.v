(* A policy for loops of unknown length, with its ratio to HSM: every t, every m. *)
From Membptt Require Import Laws Values Hsm Ism Closed Online.

(* a gap of g steps, then l from there *)
Definition hop g (l : list nat) := g :: map (Nat.add g) l.
(* the stretch of t: b m (lev m t) < t <= b m (lev m t + 1) *)
Fixpoint lev_ fuel m t q := match fuel with 0 => q | S f => if t <=? b m (S q) then q else lev_ f m t (S q) end.
(* from 0 on *)
Definition lev m t := lev_ t m t 0.

(* the states stored beside state 0 after t steps, in m slots *)
Fixpoint W (m t : nat) {struct m} : list nat :=
  match m with 0 => [] | S m' => match m' with 0 => [] | S m'' => if t <=? 1 then [] else
  if t <=? m then hop 1 (W m' (t - 1)) else                                       (* every state *)
  if t <=? 2 * m then hop (t - m + 1) (W m' (m - 1)) else                         (* the first gap grows *)
  if t <=? b m 2 then hop (m + 1) (W m' (t - (m + 1))) else                       (* it is full *)
  let q := lev m t in let B := b m q in let V := b m' q in
  if m <=? q + 1 then hop B (W m' (t - B)) else                                   (* restart at B *)
  if t <=? B + V then hop (b m (q - 1)) (W m' (t - b m (q - 1)))                  (* the first gap stays *)
  else hop B (hop V (W m'' (t - B - V)))                                          (* gaps B and V, then afresh *)
  end end.

(* ---------------------------------------------------------------- hops *)

(* in order *)
Lemma hop_rising : forall g l t, 1 <= g < t -> rising 0 l (t - g) -> rising 0 (hop g l) t.
Proof.
  intros g l t H R. unfold hop. cbn [rising]. split; [lia|].
  assert (forall l a, rising a l (t - g) -> rising (g + a) (map (Nat.add g) l) t) as G.
  { clear R l. induction l; cbn [map rising]; intros. lia. destruct H0. split; [lia|]. auto. }
  specialize (G l 0 R). rewrite Nat.add_0_r in G. auto.
Qed.
(* what it costs *)
Lemma hop_evals : forall g l t m, 1 <= g < t -> evals t (S m) (hop g l) = g + hsm g (S m) + evals (t - g) m l.
Proof.
  intros. unfold evals, hop. cbn [fin]. rewrite Nat.sub_0_r. replace (S m - 1) with m by lia.
  assert (forall l a m, fin (g + a) (map (Nat.add g) l) t m = fin a l (t - g) m) as G.
  { clear l m. induction l; cbn [map fin]; intros.
    - f_equal. lia.
    - rewrite IHl. f_equal. f_equal. lia. }
  specialize (G l 0 m). rewrite Nat.add_0_r in G. rewrite G. lia.
Qed.
(* one state more *)
Lemma hop_length : forall g l, length (hop g l) = S (length l).
Proof. intros. unfold hop. cbn [length]. now rewrite map_length. Qed.
(* the next set has nothing new but t *)
Definition next (l' : list nat) t (l : list nat) := forall x, In x l' -> x = t \/ In x l.
(* step by step *)
Lemma hop_next : forall g l' t l, next l' t l -> next (hop g l') (g + t) (hop g l).
Proof.
  unfold next, hop. intros g l' t l N x [<-|I]; [right; left; auto|]. apply in_map_iff in I. destruct I as (y & <- & I).
  destruct (N y I) as [->|J]; auto. right; right. apply in_map_iff. eauto.
Qed.
(* what is in it *)
Lemma hop_in : forall g l x, In x l -> In (g + x) (hop g l).
Proof. intros. right. apply in_map_iff. eauto. Qed.
(* and nothing else *)
Lemma in_hop : forall g l x, In x (hop g l) -> x = g \/ exists y, x = g + y /\ In y l.
Proof. intros g l x [<-|I]; auto. apply in_map_iff in I. destruct I as (y & <- & I). eauto. Qed.

(* ---------------------------------------------------------------- the stretches *)

(* it is the stretch of t *)
Lemma lev_is : forall m t q, b m q < t <= b m (S q) -> lev m t = q.
Proof.
  intros m t q H. unfold lev.
  assert (forall f p, p <= q -> q < p + f -> lev_ f m t p = q) as G.
  { induction f; intros; cbn [lev_]; [lia|]. destruct (Nat.leb_spec t (b m (S p))).
    - destruct (Nat.eq_dec p q); auto. pose proof (b_mono m (S p) q ltac:(lia)). lia.
    - destruct (Nat.eq_dec p q). { subst. lia. } apply IHf; lia. }
  apply G; try lia. destruct m; [simpl in H; lia|]. pose proof (b_ge (S m) q ltac:(lia)). lia.
Qed.
(* third column *)
Lemma b_2 : forall m, 2 * b m 2 = (m + 1) * (m + 2).
Proof. intros. pose proof (b_absorb m 1). rewrite b_s1 in H. lia. Qed.
(* beyond b m 2 every t lies on a stretch from 2 on *)
Lemma stretch_2 : forall m t, 1 <= m -> b m 2 < t -> exists q, 2 <= q /\ b m q < t <= b m (S q).
Proof.
  intros m t H L. assert (forall q, 2 <= q -> t <= b m (S q) -> exists q, 2 <= q /\ b m q < t <= b m (S q)) as G.
  { induction q; intros. lia. destruct (le_lt_dec t (b m (S q))); [|exists (S q); lia].
    destruct (Nat.eq_dec q 1). { subst. lia. } apply IHq; lia. }
  apply (G (t + 2)); try lia. pose proof (b_ge m (S (t + 2)) H). lia.
Qed.

(* W, case by case *)
Lemma W_0 : forall m t, t <= 1 -> W m t = [].
Proof. intros. destruct m as [|[|m]]; auto. cbn [W]. rewrite (proj2 (Nat.leb_le t 1)) by lia. auto. Qed.
(* the rule, from two slots on *)
Lemma W_SS : forall n t, W (S (S n)) t =
  if t <=? 1 then [] else
  if t <=? S (S n) then hop 1 (W (S n) (t - 1)) else
  if t <=? 2 * S (S n) then hop (t - S (S n) + 1) (W (S n) (S (S n) - 1)) else
  if t <=? b (S (S n)) 2 then hop (S (S n) + 1) (W (S n) (t - (S (S n) + 1))) else
  let q := lev (S (S n)) t in let B := b (S (S n)) q in let V := b (S n) q in
  if S (S n) <=? q + 1 then hop B (W (S n) (t - B)) else
  if t <=? B + V then hop (b (S (S n)) (q - 1)) (W (S n) (t - b (S (S n)) (q - 1)))
  else hop B (hop V (W n (t - B - V))).
Proof. reflexivity. Qed.
Ltac le a c := rewrite (proj2 (Nat.leb_le a c)) by lia.
Ltac gt a c := rewrite (proj2 (Nat.leb_gt a c)) by lia.
(* up to m steps *)
Lemma W_a : forall n t, 2 <= t <= S (S n) -> W (S (S n)) t = hop 1 (W (S n) (t - 1)).
Proof. intros. rewrite W_SS. gt t 1. le t (S (S n)). auto. Qed.
(* up to 2m steps *)
Lemma W_b : forall n t, S (S n) < t <= 2 * S (S n) -> W (S (S n)) t = hop (t - S n) (W (S n) (S n)).
Proof. intros. rewrite W_SS. gt t 1. gt t (S (S n)). le t (2 * S (S n)).
replace (t - S (S n) + 1) with (t - S n) by lia. replace (S (S n) - 1) with (S n) by lia. auto. Qed.
(* up to b m 2 steps *)
Lemma W_c : forall n t, 2 * S (S n) < t <= b (S (S n)) 2 -> W (S (S n)) t = hop (n + 3) (W (S n) (t - (n + 3))).
Proof.
  intros. rewrite W_SS. gt t 1. gt t (S (S n)). gt t (2 * S (S n)). le t (b (S (S n)) 2).
  replace (S (S n) + 1) with (n + 3) by lia. auto.
Qed.
(* which is beyond 2m *)
Lemma b_2_ge : forall n, 2 * S (S n) <= b (S (S n)) 2.
Proof. intros. pose proof (b_2 (S (S n))). nia. Qed.
(* beyond, few slots *)
Lemma W_r : forall n t q, 2 <= q -> n + 1 <= q -> b (S (S n)) q < t <= b (S (S n)) (S q) ->
  W (S (S n)) t = hop (b (S (S n)) q) (W (S n) (t - b (S (S n)) q)).
Proof.
  intros n t q Q N H. pose proof (b_mono (S (S n)) 2 q Q). pose proof (b_2_ge n).
  rewrite W_SS, (lev_is _ _ _ H). gt t 1. gt t (S (S n)). gt t (2 * S (S n)). gt t (b (S (S n)) 2). cbv zeta.
  le (S (S n)) (q + 1). auto.
Qed.
(* beyond, early on a stretch *)
Lemma W_1 : forall n t q, 2 <= q -> q <= n -> b (S (S n)) q < t <= b (S (S n)) (S q) ->
  t <= b (S (S n)) q + b (S n) q ->
  W (S (S n)) t = hop (b (S (S n)) (q - 1)) (W (S n) (t - b (S (S n)) (q - 1))).
Proof.
  intros n t q Q N H T. pose proof (b_mono (S (S n)) 2 q Q). pose proof (b_2_ge n).
  rewrite W_SS, (lev_is _ _ _ H). gt t 1. gt t (S (S n)). gt t (2 * S (S n)). gt t (b (S (S n)) 2). cbv zeta.
  gt (S (S n)) (q + 1). le t (b (S (S n)) q + b (S n) q). auto.
Qed.
(* beyond, late on a stretch *)
Lemma W_2 : forall n t q, 2 <= q -> q <= n -> b (S (S n)) q < t <= b (S (S n)) (S q) -> b (S (S n)) q + b (S n) q < t ->
  W (S (S n)) t = hop (b (S (S n)) q) (hop (b (S n) q) (W n (t - b (S (S n)) q - b (S n) q))).
Proof.
  intros n t q Q N H T. pose proof (b_mono (S (S n)) 2 q Q). pose proof (b_2_ge n).
  rewrite W_SS, (lev_is _ _ _ H). gt t 1. gt t (S (S n)). gt t (2 * S (S n)). gt t (b (S (S n)) 2). cbv zeta.
  gt (S (S n)) (q + 1). gt t (b (S (S n)) q + b (S n) q). auto.
Qed.
(* one of them *)
Lemma W_cases : forall n t, t <= 1 \/ 2 <= t <= S (S n) \/ S (S n) < t <= 2 * S (S n) \/ 2 * S (S n) < t <= b (S (S n))
  2 \/
  exists q, 2 <= q /\ b (S (S n)) q < t <= b (S (S n)) (S q) /\
    (n + 1 <= q \/ q <= n /\ t <= b (S (S n)) q + b (S n) q \/ q <= n /\ b (S (S n)) q + b (S n) q < t).
Proof.
  intros. destruct (le_lt_dec t (b (S (S n)) 2)). { lia. }
  destruct (stretch_2 (S (S n)) t ltac:(lia) l) as (q & Q & H). do 4 right. exists q. repeat split; auto; lia.
Qed.

(* ---------------------------------------------------------------- it is a policy *)

(* it fits in the slots *)
Lemma W_fits : forall m t, length (W m t) <= m - 1.
Proof.
  induction m as [m IH] using lt_wf_ind. intros. destruct m as [|[|n]]; auto.
  pose proof (fun t => IH (S n) ltac:(lia) t). pose proof (fun t => IH n ltac:(lia) t).
  destruct (W_cases n t) as [C|[C|[C|[C|(q & Q & C & [N|[(N & T)|(N & T)]])]]]].
  - rewrite W_0; auto. simpl. lia.
  - rewrite W_a, hop_length; auto. specialize (H (t - 1)). lia.
  - rewrite W_b, hop_length; auto. specialize (H (S n)). lia.
  - rewrite W_c, hop_length; auto. specialize (H (t - (n + 3))). lia.
  - rewrite (W_r n t q), hop_length; auto. specialize (H (t - b (S (S n)) q)). lia.
  - rewrite (W_1 n t q), hop_length; auto. specialize (H (t - b (S (S n)) (q - 1))). lia.
  - rewrite (W_2 n t q), !hop_length; auto. specialize (H0 (t - b (S (S n)) q - b (S n) q)). lia.
Qed.

(* Pascal's rule, from q - 1 *)
Lemma b_step : forall n q, 1 <= q -> b (S n) q = b (S n) (q - 1) + b n q.
Proof. intros. destruct q; [lia|]. rewrite b_SS. replace (S q - 1) with q by lia. auto. Qed.

(* it is in order *)
Lemma W_rising : forall m t, 1 <= t -> rising 0 (W m t) t.
Proof.
  induction m as [m IH] using lt_wf_ind. intros t Ht. destruct m as [|[|n]]; try (cbn; lia).
  destruct (W_cases n t) as [C|[C|[C|[C|(q & Q & C & [N|[(N & T)|(N & T)]])]]]].
  - rewrite W_0; auto.
  - rewrite W_a; auto. apply hop_rising; [lia|]. apply IH; lia.
  - rewrite W_b; auto. apply hop_rising; [lia|]. replace (t - (t - S n)) with (S n) by lia. apply IH; lia.
  - rewrite W_c; auto. apply hop_rising; [lia|]. apply IH; lia.
  - rewrite (W_r n t q); auto. pose proof (b_pos (S (S n)) q). apply hop_rising; [lia|]. apply IH; lia.
  - rewrite (W_1 n t q); auto. pose proof (b_pos (S (S n)) (q - 1)). pose proof (b_mono (S (S n)) (q - 1) q ltac:(lia)).
    apply hop_rising; [lia|]. apply IH; lia.
  - rewrite (W_2 n t q); auto. pose proof (b_pos (S (S n)) q). pose proof (b_pos (S n) q).
    apply hop_rising; [lia|]. apply hop_rising; [lia|]. apply IH; lia.
Qed.

(* where a stretch ends, it is the full set of the next *)
Lemma W_full : forall m q, 2 <= m -> 2 <= q -> W m (b m q) = hop (b m (q - 1)) (W (m - 1) (b (m - 1) q)).
Proof.
  induction m as [m IH] using lt_wf_ind. intros q Hm Hq. destruct m as [|[|n]]; try lia.
  replace (S (S n) - 1) with (S n) by lia. pose proof (b_step (S n) q ltac:(lia)) as S1.
  destruct (Nat.eq_dec q 2) as [->|].
  - pose proof (b_2_ge n). change (2 - 1) with 1 in *. rewrite (b_s1 (S (S n))) in *.
    destruct (le_lt_dec (b (S (S n)) 2) (2 * S (S n))).
    + pose proof (b_2 (S (S n))). nia.
    + rewrite W_c by lia. replace (n + 3) with (S (S (S n))) by lia. f_equal. f_equal. lia.
  - assert (C : b (S (S n)) (q - 1) < b (S (S n)) q <= b (S (S n)) (S (q - 1))).
    { replace (S (q - 1)) with q by lia. pose proof (b_pos (S n) q). lia. }
    destruct (le_lt_dec (n + 1) (q - 1)).
    + rewrite (W_r n _ (q - 1)) by lia. f_equal. f_equal. lia.
    + pose proof (b_step n q ltac:(lia)). rewrite (W_2 n _ (q - 1)); auto; try lia.
      2: { pose proof (b_pos n q). lia. }
      rewrite (IH (S n)) by lia. replace (S n - 1) with n by lia. do 3 f_equal. lia.
Qed.

(* state b m q stays over its whole stretch *)
Lemma b_half : forall n q, q <= n -> b (S n) q <= b n (S q).
Proof. intros. pose proof (b_absorb n q). pose proof (b_pos (S n) q). nia. Qed.
(* the end of the last stretch stays held *)
Lemma W_keeps : forall m q t, 2 <= m -> 2 <= q -> b m q < t <= b m (S q) -> In (b m q) (W m t).
Proof.
  induction m as [m IH] using lt_wf_ind. intros q t Hm Hq H. destruct m as [|[|n]]; try lia.
  destruct (le_lt_dec (n + 1) q). { rewrite (W_r n t q); auto. left; auto. }
  destruct (le_lt_dec t (b (S (S n)) q + b (S n) q)). 2: { rewrite (W_2 n t q); auto; try lia. left; auto. }
  rewrite (W_1 n t q); auto; try lia. pose proof (b_step (S n) q ltac:(lia)) as E. rewrite E at 1. apply hop_in.
  apply IH; try lia. split; [lia|]. rewrite b_SS. pose proof (b_half n q ltac:(lia)). lia.
Qed.

(* only what is first passed is stored *)
Lemma W_next : forall m t, 1 <= t -> next (W m (S t)) t (W m t).
Proof.
  induction m as [m IH] using lt_wf_ind. intros t Ht. destruct m as [|[|n]]; try (intros x I; destruct I).
  assert (Hop : forall g, 1 <= g -> g < t -> next (hop g (W (S n) (S t - g))) t (hop g (W (S n) (t - g)))).
  { intros g G1 G2. pose proof (hop_next g _ (t - g) _ (IH (S n) ltac:(lia) (t - g) ltac:(lia))) as N.
    replace (g + (t - g)) with t in N by lia. replace (S (t - g)) with (S t - g) in N by lia. auto. }
  pose proof (b_2_ge n) as B2.
  destruct (W_cases n (S t)) as [C|[C|[C|[C|(q & Q & C & [N|[(N & T)|(N & T)]])]]]].
  - lia.
  - rewrite W_a by lia. destruct (Nat.eq_dec t 1) as [->|].
    { rewrite (W_0 (S n)) by lia. intros x [<-|[]]. auto. }
    rewrite W_a by lia. apply Hop; lia.
  - rewrite W_b by lia.
    (* positions S t - S n, ..., t: all of them *)
    assert (A : forall n k x, k <= S n -> (In x (W (S n) k) <-> 1 <= x < k)).
    { clear. intros n. induction n; intros k x Hk. { simpl. lia. }
      destruct (le_lt_dec k 1). { rewrite W_0 by lia. simpl. lia. }
      rewrite W_a by lia. split.
      - intros I. apply in_hop in I. destruct I as [->|(y & -> & I)]; [lia|]. apply IHn in I; lia.
      - intros I. destruct (Nat.eq_dec x 1) as [->|]. { left; auto. } replace x with (1 + (x - 1)) by lia.
        apply hop_in, IHn; lia. }
    intros x I. assert (X : S t - S n <= x <= t).
    { apply in_hop in I. destruct I as [->|(y & -> & I)]; [lia|]. apply A in I; lia. }
    destruct (Nat.eq_dec x t); auto. right. destruct (le_lt_dec t (S (S n))).
    + apply A; lia.
    + rewrite W_b by lia. replace x with ((t - S n) + (x - (t - S n))) by lia. apply hop_in, A; lia.
  - rewrite W_c by lia. destruct (Nat.eq_dec t (2 * S (S n))).
    + rewrite W_b by lia. replace (t - S n) with (n + 3) by lia.
      pose proof (Hop (n + 3) ltac:(lia) ltac:(lia)) as N. replace (t - (n + 3)) with (S n) in N by lia. auto.
    + rewrite W_c by lia. apply Hop; lia.
  - pose proof (b_pos (S (S n)) q). rewrite (W_r n (S t) q) by auto. destruct (Nat.eq_dec t (b (S (S n)) q)).
    + rewrite (W_0 (S n)) by lia. intros x [<-|[]]. auto.
    + rewrite (W_r n t q) by (auto; lia). apply Hop; lia.
  - pose proof (b_pos (S (S n)) (q - 1)). pose proof (b_step (S n) q ltac:(lia)) as E. pose proof (b_pos (S n) q).
    rewrite (W_1 n (S t) q) by (auto; lia). destruct (Nat.eq_dec t (b (S (S n)) q)).
    + rewrite e at 3. rewrite W_full by lia. replace (S (S n) - 1) with (S n) by lia.
      replace (b (S n) q) with (t - b (S (S n)) (q - 1)) by lia.
      apply Hop; lia.
    + rewrite (W_1 n t q) by (auto; lia). apply Hop; lia.
  - pose proof (b_pos (S (S n)) q). pose proof (b_pos (S n) q). rewrite (W_2 n (S t) q) by auto.
    destruct (Nat.eq_dec t (b (S (S n)) q + b (S n) q)).
    + rewrite (W_0 n) by lia. intros x [<-|[<-|[]]].
      * right. apply W_keeps; lia.
      * left. lia.
    + rewrite (W_2 n t q) by (auto; lia).
      pose proof (hop_next (b (S n) q) _ _ _ (IH n ltac:(lia) (t - b (S (S n)) q - b (S n) q) ltac:(lia))) as N1.
      apply (hop_next (b (S (S n)) q)) in N1.
      replace (b (S (S n)) q + (b (S n) q + (t - b (S (S n)) q - b (S n) q))) with t in N1 by lia.
      replace (S (t - b (S (S n)) q - b (S n) q)) with (S t - b (S (S n)) q - b (S n) q) in N1 by lia. auto.
Qed.

(* so it is a policy *)
Definition W_policy m (Hm : 1 <= m) : online_policy m.
Proof.
  refine (Pol m (W m) (W m) _ _ _ _ _).
  - intros. pose proof (W_fits m t). lia.
  - intros t x Ht I. apply (rising_in _ _ _ _ (W_rising m t Ht) I).
  - intros t x Ht I. apply (W_next m t Ht x I).
  - intros t _ x I. exact I.
  - intros. apply W_rising. auto.
Defined.
