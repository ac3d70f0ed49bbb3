(* A policy for loops of unknown length, with its ratio to HSM: every t, every m. *)
From Membptt Require Import Laws Values Hsm Ism Closed Online.

(* a gap of g steps, then l from there *)
Definition hop g (l : list nat) := g :: map (Nat.add g) l.
(* the stretch of t: b m (lev m t) < t <= b m (lev m t + 1) *)
Fixpoint lev_ fuel m t q := match fuel with 0 => q | S f => if t <=? b m (S q) then q else lev_ f m t (S q) end.
Definition lev m t := lev_ t m t 0.

(* the states stored beside state 0 after t steps, in m slots *)
Fixpoint W (m t : nat) {struct m} : list nat := match m with 0 => [] | S m' => match m' with 0 => [] | S m'' =>
  if t <=? 1 then [] else
  if t <=? m then hop 1 (W m' (t - 1)) else                                       (* every state *)
  if t <=? 2 * m then hop (t - m + 1) (W m' (m - 1)) else                         (* the first gap grows *)
  if t <=? b m 2 then hop (m + 1) (W m' (t - (m + 1))) else                       (* it is full *)
  let q := lev m t in let B := b m q in let V := b m' q in
  if m <=? q + 1 then hop B (W m' (t - B)) else                                   (* restart at B *)
  if t <=? B + V then hop (b m (q - 1)) (W m' (t - b m (q - 1)))                  (* the first gap stays *)
  else hop B (hop V (W m'' (t - B - V)))                                          (* gaps B and V, then afresh *)
  end end.

(* ---------------------------------------------------------------- hops *)

Lemma hop_rising : forall g l t, 1 <= g < t -> rising 0 l (t - g) -> rising 0 (hop g l) t.
Proof.
  intros g l t H R. unfold hop. cbn [rising]. split; [lia|].
  assert (forall l a, rising a l (t - g) -> rising (g + a) (map (Nat.add g) l) t) as G.
  { clear R l. induction l; cbn [map rising]; intros. lia. destruct H0. split; [lia|]. auto. }
  specialize (G l 0 R). rewrite Nat.add_0_r in G. auto.
Qed.
Lemma hop_evals : forall g l t m, 1 <= g < t -> evals t (S m) (hop g l) = g + hsm g (S m) + evals (t - g) m l.
Proof.
  intros. unfold evals, hop. cbn [fin]. rewrite Nat.sub_0_r. replace (S m - 1) with m by lia.
  assert (forall l a m, fin (g + a) (map (Nat.add g) l) t m = fin a l (t - g) m) as G.
  { clear l m. induction l; cbn [map fin]; intros.
    - f_equal. lia.
    - rewrite IHl. f_equal. f_equal. lia. }
  specialize (G l 0 m). rewrite Nat.add_0_r in G. rewrite G. lia.
Qed.
Lemma hop_length : forall g l, length (hop g l) = S (length l).
Proof. intros. unfold hop. cbn [length]. now rewrite map_length. Qed.
(* the next set has nothing new but t *)
Definition next (l' : list nat) t (l : list nat) := forall x, In x l' -> x = t \/ In x l.
Lemma hop_next : forall g l' t l, next l' t l -> next (hop g l') (g + t) (hop g l).
Proof.
  unfold next, hop. intros g l' t l N x [<-|I]; [right; left; auto|]. apply in_map_iff in I. destruct I as (y & <- & I).
  destruct (N y I) as [->|J]; auto. right; right. apply in_map_iff. eauto.
Qed.
Lemma hop_in : forall g l x, In x l -> In (g + x) (hop g l).
Proof. intros. right. apply in_map_iff. eauto. Qed.
Lemma in_hop : forall g l x, In x (hop g l) -> x = g \/ exists y, x = g + y /\ In y l.
Proof. intros g l x [<-|I]; auto. apply in_map_iff in I. destruct I as (y & <- & I). eauto. Qed.

(* ---------------------------------------------------------------- the stretches *)

Lemma lev_is : forall m t q, b m q < t <= b m (S q) -> lev m t = q.
Proof.
  intros m t q H. unfold lev.
  assert (forall f p, p <= q -> q < p + f -> lev_ f m t p = q) as G.
  { induction f; intros; cbn [lev_]; [lia|]. destruct (Nat.leb_spec t (b m (S p))).
    - destruct (Nat.eq_dec p q); auto. pose proof (b_mono m (S p) q ltac:(lia)). lia.
    - destruct (Nat.eq_dec p q). { subst. lia. } apply IHf; lia. }
  apply G; try lia. destruct m; [simpl in H; lia|]. pose proof (b_ge (S m) q ltac:(lia)). lia.
Qed.
Lemma b_2 : forall m, 2 * b m 2 = (m + 1) * (m + 2).
Proof. intros. pose proof (b_absorb m 1). rewrite b_s1 in H. lia. Qed.
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
Lemma W_a : forall n t, 2 <= t <= S (S n) -> W (S (S n)) t = hop 1 (W (S n) (t - 1)).
Proof. intros. rewrite W_SS. gt t 1. le t (S (S n)). auto. Qed.
Lemma W_b : forall n t, S (S n) < t <= 2 * S (S n) -> W (S (S n)) t = hop (t - S n) (W (S n) (S n)).
Proof. intros. rewrite W_SS. gt t 1. gt t (S (S n)). le t (2 * S (S n)). replace (t - S (S n) + 1) with (t - S n) by lia. replace (S (S n) - 1) with (S n) by lia. auto. Qed.
Lemma W_c : forall n t, 2 * S (S n) < t <= b (S (S n)) 2 -> W (S (S n)) t = hop (n + 3) (W (S n) (t - (n + 3))).
Proof.
  intros. rewrite W_SS. gt t 1. gt t (S (S n)). gt t (2 * S (S n)). le t (b (S (S n)) 2).
  replace (S (S n) + 1) with (n + 3) by lia. auto.
Qed.
Lemma b_2_ge : forall n, 2 * S (S n) <= b (S (S n)) 2.
Proof. intros. pose proof (b_2 (S (S n))). nia. Qed.
Lemma W_r : forall n t q, 2 <= q -> n + 1 <= q -> b (S (S n)) q < t <= b (S (S n)) (S q) ->
  W (S (S n)) t = hop (b (S (S n)) q) (W (S n) (t - b (S (S n)) q)).
Proof.
  intros n t q Q N H. pose proof (b_mono (S (S n)) 2 q Q). pose proof (b_2_ge n).
  rewrite W_SS, (lev_is _ _ _ H). gt t 1. gt t (S (S n)). gt t (2 * S (S n)). gt t (b (S (S n)) 2). cbv zeta.
  le (S (S n)) (q + 1). auto.
Qed.
Lemma W_1 : forall n t q, 2 <= q -> q <= n -> b (S (S n)) q < t <= b (S (S n)) (S q) -> t <= b (S (S n)) q + b (S n) q ->
  W (S (S n)) t = hop (b (S (S n)) (q - 1)) (W (S n) (t - b (S (S n)) (q - 1))).
Proof.
  intros n t q Q N H T. pose proof (b_mono (S (S n)) 2 q Q). pose proof (b_2_ge n).
  rewrite W_SS, (lev_is _ _ _ H). gt t 1. gt t (S (S n)). gt t (2 * S (S n)). gt t (b (S (S n)) 2). cbv zeta.
  gt (S (S n)) (q + 1). le t (b (S (S n)) q + b (S n) q). auto.
Qed.
Lemma W_2 : forall n t q, 2 <= q -> q <= n -> b (S (S n)) q < t <= b (S (S n)) (S q) -> b (S (S n)) q + b (S n) q < t ->
  W (S (S n)) t = hop (b (S (S n)) q) (hop (b (S n) q) (W n (t - b (S (S n)) q - b (S n) q))).
Proof.
  intros n t q Q N H T. pose proof (b_mono (S (S n)) 2 q Q). pose proof (b_2_ge n).
  rewrite W_SS, (lev_is _ _ _ H). gt t 1. gt t (S (S n)). gt t (2 * S (S n)). gt t (b (S (S n)) 2). cbv zeta.
  gt (S (S n)) (q + 1). gt t (b (S (S n)) q + b (S n) q). auto.
Qed.
(* one of them *)
Lemma W_cases : forall n t, t <= 1 \/ 2 <= t <= S (S n) \/ S (S n) < t <= 2 * S (S n) \/ 2 * S (S n) < t <= b (S (S n)) 2 \/
  exists q, 2 <= q /\ b (S (S n)) q < t <= b (S (S n)) (S q) /\
    (n + 1 <= q \/ q <= n /\ t <= b (S (S n)) q + b (S n) q \/ q <= n /\ b (S (S n)) q + b (S n) q < t).
Proof.
  intros. destruct (le_lt_dec t (b (S (S n)) 2)). { lia. }
  destruct (stretch_2 (S (S n)) t ltac:(lia) l) as (q & Q & H). do 4 right. exists q. repeat split; auto; lia.
Qed.

(* ---------------------------------------------------------------- it is a policy *)

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

Lemma b_step : forall n q, 1 <= q -> b (S n) q = b (S n) (q - 1) + b n q.
Proof. intros. destruct q; [lia|]. rewrite b_SS. replace (S q - 1) with q by lia. auto. Qed.

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
      - intros I. destruct (Nat.eq_dec x 1) as [->|]. { left; auto. } replace x with (1 + (x - 1)) by lia. apply hop_in, IHn; lia. }
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
    + rewrite e at 3. rewrite W_full by lia. replace (S (S n) - 1) with (S n) by lia. replace (b (S n) q) with (t - b (S (S n)) (q - 1)) by lia.
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

Definition W_policy m (Hm : 1 <= m) : online_policy m.
Proof.
  refine (Pol m (W m) (W m) _ _ _ _ _).
  - intros. pose proof (W_fits m t). lia.
  - intros t x Ht I. apply (rising_in _ _ _ _ (W_rising m t Ht) I).
  - intros t x Ht I. apply (W_next m t Ht x I).
  - intros t _ x I. exact I.
  - intros. apply W_rising. auto.
Defined.

(* ---------------------------------------------------------------- what it costs *)

Notation X m t := (evals t m (W m t)).

Lemma evals_nil : forall t m, evals t m [] = t + hsm (t - 1) m.
Proof. intros. unfold evals. cbn [fin]. rewrite Nat.sub_0_r. auto. Qed.
Lemma X_1 : forall t, 1 <= t -> X 1 t = hsm t 1.
Proof. intros. simpl (W 1 t). rewrite evals_nil. destruct t; [lia|]. rewrite hsm_one_slot_S. do 2 f_equal. lia. Qed.

(* everything stored: as HSM *)
Lemma X_all : forall m t, 1 <= t <= m -> X m t = 2 * t - 1.
Proof.
  induction m as [|m IH]; intros; [lia|]. destruct (Nat.eq_dec t 1) as [->|].
  { rewrite W_0, evals_nil by lia. simpl. rewrite hsm_no_step. auto. }
  destruct m; [lia|]. rewrite W_a, hop_evals, hsm_one_step, IH by lia. lia.
Qed.
(* up to b m 2: at most one step more *)
Lemma X_front : forall m t, 1 <= m -> b m 1 <= t <= b m 2 -> X m t <= hsm t m + 1.
Proof.
  induction m as [|m IH]; intros t Hm H; [lia|]. destruct m as [|n]. { rewrite b_s1 in H. rewrite X_1 by lia. lia. }
  pose proof (on_line (S (S n)) t 1 Hm H) as L. rewrite (b_SS (S n) 1) in H. rewrite !b_s1 in H, L.
  pose proof (b_2 (S n)) as B2.
  assert (G : forall g, 1 <= g <= S (S (S n)) -> hsm g (S (S n)) = 2 * g - 1).
  { intros g Hg. pose proof (on_line (S (S n)) g 0 Hm) as Lg. rewrite !b_0, b_s1 in Lg. specialize (Lg ltac:(lia)). lia. }
  destruct (le_lt_dec t (2 * S (S n))).
  - rewrite W_b, hop_evals by lia. replace (t - (t - S n)) with (S n) by lia. rewrite X_all, G by lia. lia.
  - rewrite W_c, hop_evals by (rewrite ?(b_SS (S n) 1), ?b_s1; lia). rewrite G by lia.
    assert (H' : b (S n) 1 <= t - (n + 3) <= b (S n) 2) by (rewrite b_s1; lia).
    pose proof (IH (t - (n + 3)) ltac:(lia) H'). pose proof (on_line (S n) _ 1 ltac:(lia) H') as L'. rewrite b_s1 in L'. lia.
Qed.

Lemma hsm_le : forall m t q, 1 <= m -> 1 <= t <= b m (S q) -> hsm t m <= (q + 2) * t.
Proof.
  intros. destruct (stretch m t H ltac:(lia)) as (p & P). destruct (le_lt_dec p q).
  - pose proof (on_line m t p H P). nia.
  - pose proof (b_mono m (S q) p ltac:(lia)). pose proof (b_up m q). pose proof (on_line m t q H ltac:(lia)). lia.
Qed.

(* (A): at most q + 2 passes up to b m (q + 1) *)
Lemma X_passes : forall m q t, 1 <= m -> 1 <= t <= b m (S q) -> X m t <= (q + 2) * t.
Proof.
  induction m as [m IH] using lt_wf_ind. intros q t Hm H. destruct m as [|[|n]]; [lia|rewrite X_1 by lia; apply hsm_le; auto|].
  pose proof (b_2_ge n). destruct (W_cases n t) as [C|[C|[C|[C|(p & Q & C & D)]]]].
  1,2: rewrite X_all by lia; nia.
  1,2: assert (C' : b (S (S n)) 1 <= t <= b (S (S n)) 2) by (rewrite b_s1; lia);
       pose proof (X_front _ t Hm C'); pose proof (on_line _ t 1 Hm C') as L; rewrite b_s1 in L;
       destruct q; [rewrite b_s1 in H; lia | nia].
  assert (Hp : p <= q). { destruct (le_lt_dec p q); auto. pose proof (b_mono (S (S n)) (S q) p ltac:(lia)). lia. }
  assert (G : X (S (S n)) t <= (p + 2) * t); [|nia].
  pose proof (b_step (S n) p ltac:(lia)) as S1. pose proof (b_SS (S n) p) as S2. pose proof (b_pos (S (S n)) (p - 1)).
  pose proof (hsm_le (S (S n)) (b (S (S n)) (p - 1)) (p - 1) ltac:(lia) ltac:(replace (S (p - 1)) with p by lia; lia)) as C1.
  pose proof (hsm_le (S (S n)) (b (S (S n)) p) (p - 1) ltac:(lia) ltac:(replace (S (p - 1)) with p by lia; lia)) as C2.
  pose proof (b_pos (S n) p).
  pose proof (hsm_le (S n) (b (S n) p) (p - 1) ltac:(lia) ltac:(replace (S (p - 1)) with p by lia; lia)) as C3.
  replace (p - 1 + 2) with (p + 1) in * by lia.
  destruct D as [N|[(N & T)|(N & T)]].
  - rewrite (W_r n t p), hop_evals by (auto; lia).
    pose proof (IH (S n) ltac:(lia) p (t - b (S (S n)) p) ltac:(lia) ltac:(lia)). nia.
  - rewrite (W_1 n t p), hop_evals by (auto; lia). pose proof (b_half n p ltac:(lia)). pose proof (b_SS n p).
    pose proof (IH (S n) ltac:(lia) p (t - b (S (S n)) (p - 1)) ltac:(lia) ltac:(lia)). nia.
  - rewrite (W_2 n t p), !hop_evals by (auto; lia). pose proof (b_SS n p).
    pose proof (IH n ltac:(lia) p (t - b (S (S n)) p - b (S n) p) ltac:(lia) ltac:(lia)). nia.
Qed.

(* the excess on a stretch *)
Lemma X_excess : forall m q t, 1 <= m -> 2 <= q -> b m q < t <= b m (S q) -> exists e, X m t <= hsm t m + e /\
  (m <= q + 1 /\ e = b m q \/ q + 1 <= m /\ e = b (S q) q \/ q + 2 <= m /\ e <= b (m - 1) q /\ b m q + e <= t).
Proof.
  induction m as [m IH] using lt_wf_ind. intros q t Hm Hq H. destruct m as [|[|n]]; [lia| |].
  { exists (b 1 q). rewrite X_1 by lia. split; lia. }
  pose proof (on_line (S (S n)) t q ltac:(lia) ltac:(lia)) as L.
  pose proof (b_step (S n) q ltac:(lia)) as S1. pose proof (b_step (S (S n)) q ltac:(lia)) as S0. pose proof (b_SS (S n) q) as S2.
  pose proof (b_pos (S (S n)) (q - 1)). pose proof (b_pos (S n) q).
  pose proof (on_line (S (S n)) (b (S (S n)) (q - 1)) (q - 1) ltac:(lia) ltac:(replace (S (q - 1)) with q by lia; lia)) as C1.
  pose proof (on_line (S (S n)) (b (S (S n)) q) (q - 1) ltac:(lia) ltac:(replace (S (q - 1)) with q by lia; lia)) as C2.
  replace (q - 1 + 2) with (q + 1) in * by lia.
  destruct (le_lt_dec (n + 1) q) as [N|N]; [|destruct (le_lt_dec t (b (S (S n)) q + b (S n) q)) as [T|T]].
  - exists (b (S (S n)) q). split; [|lia]. rewrite (W_r n t q), hop_evals by (auto; lia).
    pose proof (X_passes (S n) q (t - b (S (S n)) q) ltac:(lia) ltac:(lia)).
    remember (b (S (S n)) q) as B. assert ((q + 2) * t = (q + 2) * B + (q + 2) * (t - B)) by nia. lia.
  - pose proof (b_half n q ltac:(lia)). pose proof (b_SS n q).
    destruct (IH (S n) ltac:(lia) q (t - b (S (S n)) (q - 1)) ltac:(lia) Hq ltac:(lia)) as (e & E & D).
    exists e. split.
    + rewrite (W_1 n t q), hop_evals by (auto; lia).
      pose proof (on_line (S n) (t - b (S (S n)) (q - 1)) q ltac:(lia) ltac:(lia)) as L'.
      remember (b (S (S n)) (q - 1)) as g. assert ((q + 2) * t = (q + 2) * g + (q + 2) * (t - g)) by nia. lia.
    + replace (S (S n) - 1) with (S n) by lia. replace (S n - 1) with n in D by lia. pose proof (b_up_s n q).
      destruct D as [(D & ->)|[(D & ->)|D]].
      * right; left. split; [lia|]. f_equal. lia.
      * right; left. split; [lia|]. auto.
      * right; right. lia.
  - exists (b (S n) q). split. 2: { right; right. replace (S (S n) - 1) with (S n) by lia. lia. }
    rewrite (W_2 n t q), !hop_evals by (auto; lia). pose proof (b_SS n q).
    pose proof (on_line (S n) (b (S n) q) (q - 1) ltac:(lia) ltac:(replace (S (q - 1)) with q by lia; pose proof (b_up (S n) (q - 1)); replace (S (q - 1)) with q in * by lia; lia)) as C3.
    replace (q - 1 + 2) with (q + 1) in * by lia. replace (t - b (S (S n)) q - b (S n) q) with (t - (b (S (S n)) q + b (S n) q)) by lia.
    pose proof (X_passes n q (t - (b (S (S n)) q + b (S n) q)) ltac:(lia) ltac:(lia)).
    remember (b (S (S n)) q) as B. remember (b (S n) q) as V.
    assert ((q + 2) * t = (q + 2) * B + (q + 2) * V + (q + 2) * (t - (B + V))) by nia. lia.
Qed.

(* HSM at b m q *)
Lemma hsm_full : forall m q, 1 <= m -> (m + 1) * hsm (b m q) m = b m q * ((q + 1) * m + 1).
Proof.
  intros. destruct q. { rewrite b_0, hsm_one_step. lia. }
  pose proof (b_up m q). pose proof (on_line m (b m (S q)) q H ltac:(lia)) as L. pose proof (b_absorb m q). nia.
Qed.
Lemma hsm_full_ge : forall m q, 1 <= m -> 1 <= q -> (q + 1) * b (m - 1) q <= hsm (b m q) m.
Proof.
  intros m q Hm Hq. destruct m as [|m]; [lia|]. replace (S m - 1) with m by lia. destruct q; [lia|].
  pose proof (b_up (S m) q). pose proof (on_line (S m) (b (S m) (S q)) q Hm ltac:(lia)) as L.
  assert (b (S (S m)) q <= (q + 2) * b (S m) q).
  { destruct q. rewrite !b_0. lia. pose proof (b_absorb (S m) q). rewrite (b_SS (S m) q). nia. }
  rewrite b_SS in *. nia.
Qed.
(* HSM grows along its line *)
Lemma hsm_along : forall m q t, 1 <= m -> b m q <= t <= b m (S q) -> hsm t m = hsm (b m q) m + (q + 2) * (t - b m q).
Proof. intros. pose proof (on_line m t q H H0). pose proof (on_line m (b m q) q H ltac:(lia)). nia. Qed.

(* where t lies *)
Lemma where_is : forall m t, 1 <= m -> 1 <= t ->
  1 <= t <= m \/ b m 1 <= t <= b m 2 \/ exists q, 2 <= q /\ b m q < t <= b m (S q).
Proof.
  intros. destruct (le_lt_dec t m); [lia|]. rewrite b_s1. destruct (le_lt_dec t (b m 2)); [lia|].
  right; right. apply stretch_2; auto.
Qed.

(* (B): at most one more pass over b m q steps *)
Theorem excess_stretch : forall m q t, 1 <= m -> 2 <= q -> b m q < t <= b m (S q) -> X m t <= hsm t m + b m q.
Proof.
  intros m q t Hm Hq H. destruct (X_excess m q t Hm Hq H) as (e & E & D).
  assert (e <= b m q); [|lia]. destruct D as [(_ & ->)|[(D & ->)|D]]; auto.
  - apply b_mono_s. lia.
  - pose proof (b_mono_s (m - 1) m q ltac:(lia)). lia.
Qed.
Theorem ratio_stretch : forall m q t, 1 <= m -> 2 <= q -> b m q < t <= b m (S q) ->
  ((q + 1) * m + 1) * X m t <= ((q + 2) * m + 2) * hsm t m.
Proof.
  intros m q t Hm Hq H. pose proof (excess_stretch m q t Hm Hq H). pose proof (hsm_full m q Hm).
  pose proof (hsm_along m q t Hm ltac:(lia)).
  assert (b m q * ((q + 1) * m + 1) <= (m + 1) * hsm t m) by nia.
  assert (((q + 1) * m + 1) * X m t <= ((q + 1) * m + 1) * (hsm t m + b m q)) by (apply Nat.mul_le_mono_l; auto). nia.
Qed.

(* m >= 2: at most 10/7 of HSM *)
Theorem ten_sevenths : forall m t, 2 <= m -> 1 <= t -> 7 * X m t <= 10 * hsm t m.
Proof.
  intros m t Hm Ht. destruct (where_is m t ltac:(lia) Ht) as [H|[H|(q & Q & H)]].
  - rewrite X_all, hsm_many_slots by lia. lia.
  - pose proof (X_front m t ltac:(lia) H). pose proof (on_line m t 1 ltac:(lia) H). rewrite b_s1 in *. lia.
  - pose proof (excess_stretch m q t ltac:(lia) Q H). pose proof (hsm_full m q ltac:(lia)).
    pose proof (hsm_along m q t ltac:(lia) ltac:(lia)). assert (7 * b m q <= 3 * hsm (b m q) m); [|lia]. nia.
Qed.

Lemma seven : forall m q, 6 <= m -> 7 <= q -> 7 * b m q <= hsm (b m q) m.
Proof.
  intros m q Hm Hq. pose proof (hsm_full m q ltac:(lia)) as E.
  assert (A : 7 * (m + 1) <= (q + 1) * m + 1) by nia.
  apply (Nat.mul_le_mono_l _ _ (b m q)) in A. apply (Nat.mul_le_mono_pos_l _ _ (m + 1)); [lia|]. rewrite E.
  eapply Nat.le_trans; [|exact A]. apply Nat.eq_le_incl. ring.
Qed.

(* m >= 8: at most 8/7 of HSM *)
Theorem eight_sevenths : forall m t, 8 <= m -> 1 <= t -> 7 * X m t <= 8 * hsm t m.
Proof.
  intros m t Hm Ht. destruct (where_is m t ltac:(lia) Ht) as [H|[H|(q & Q & H)]].
  - rewrite X_all, hsm_many_slots by lia. lia.
  - pose proof (X_front m t ltac:(lia) H). pose proof (on_line m t 1 ltac:(lia) H). rewrite b_s1 in *. lia.
  - destruct (X_excess m q t ltac:(lia) Q H) as (e & E & D).
    pose proof (hsm_along m q t ltac:(lia) ltac:(lia)) as A.
    assert (A0 : hsm (b m q) m <= hsm t m) by (rewrite A; apply Nat.le_add_r). assert (7 * e <= hsm t m); [|lia].
    pose proof (hsm_full_ge m q ltac:(lia) ltac:(lia)) as G.
    destruct D as [(D & ->)|[(D & ->)|(D & E1 & E2)]].
    + pose proof (seven m q ltac:(lia) ltac:(lia)). lia.
    + destruct (Nat.eq_dec m (S q)) as [->|].
      { pose proof (seven (S q) q ltac:(lia) ltac:(lia)). lia. }
      assert (7 * b (S q) q <= (q + 1) * b (m - 1) q); [|lia].
      destruct (le_lt_dec 6 q).
      * pose proof (b_mono_s (S q) (m - 1) q ltac:(lia)). nia.
      * pose proof (b_mono_s 7 (m - 1) q ltac:(lia)).
        assert (q = 2 \/ q = 3 \/ q = 4 \/ q = 5) as [->|[->|[->| ->]]] by lia.
        all: match goal with |- 7 * ?x <= _ => let v := eval vm_compute in x in change x with v end.
        all: match goal with H : ?x <= b (_ - 1) _ |- _ => let v := eval vm_compute in x in change x with v in H end; lia.
    + nia.
Qed.
