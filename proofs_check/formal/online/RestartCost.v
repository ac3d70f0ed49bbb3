(* What the staged policy costs: at most q + 2 passes, and its ratio to HSM for every t and m. *)
From Membptt Require Import Laws Values Hsm Ism Closed Online Restart.

Notation X m t := (evals t m (W m t)).

(* nothing stored beside the start *)
Lemma evals_nil : forall t m, evals t m [] = t + hsm (t - 1) m.
Proof. intros. unfold evals. cbn [fin]. rewrite Nat.sub_0_r. auto. Qed.
(* one slot *)
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
  { intros g Hg. pose proof (on_line (S (S n)) g 0 Hm) as Lg. rewrite !b_0,
    b_s1 in Lg. specialize (Lg ltac:(lia)). lia. }
  destruct (le_lt_dec t (2 * S (S n))).
  - rewrite W_b, hop_evals by lia. replace (t - (t - S n)) with (S n) by lia. rewrite X_all, G by lia. lia.
  - rewrite W_c, hop_evals by (rewrite ?(b_SS (S n) 1), ?b_s1; lia). rewrite G by lia.
    assert (H' : b (S n) 1 <= t - (n + 3) <= b (S n) 2) by (rewrite b_s1; lia).
    pose proof (IH (t - (n + 3)) ltac:(lia) H'). pose proof (on_line (S n) _ 1 ltac:(lia) H') as L'.
    rewrite b_s1 in L'. lia.
Qed.

(* HSM takes at most q + 2 passes there *)
Lemma hsm_le : forall m t q, 1 <= m -> 1 <= t <= b m (S q) -> hsm t m <= (q + 2) * t.
Proof.
  intros. destruct (stretch m t H ltac:(lia)) as (p & P). destruct (le_lt_dec p q).
  - pose proof (on_line m t p H P). nia.
  - pose proof (b_mono m (S q) p ltac:(lia)). pose proof (b_up m q). pose proof (on_line m t q H ltac:(lia)). lia.
Qed.

(* (A): at most q + 2 passes up to b m (q + 1) *)
Lemma X_passes : forall m q t, 1 <= m -> 1 <= t <= b m (S q) -> X m t <= (q + 2) * t.
Proof.
  induction m as [m IH] using lt_wf_ind. intros q t Hm H.
  destruct m as [|[|n]]; [lia|rewrite X_1 by lia; apply hsm_le; auto|].
  pose proof (b_2_ge n). destruct (W_cases n t) as [C|[C|[C|[C|(p & Q & C & D)]]]].
  1,2: rewrite X_all by lia; nia.
  1,2: assert (C' : b (S (S n)) 1 <= t <= b (S (S n)) 2) by (rewrite b_s1; lia);
       pose proof (X_front _ t Hm C'); pose proof (on_line _ t 1 Hm C') as L; rewrite b_s1 in L;
       destruct q; [rewrite b_s1 in H; lia | nia].
  assert (Hp : p <= q). { destruct (le_lt_dec p q); auto. pose proof (b_mono (S (S n)) (S q) p ltac:(lia)). lia. }
  assert (G : X (S (S n)) t <= (p + 2) * t); [|nia].
  pose proof (b_step (S n) p ltac:(lia)) as S1. pose proof (b_SS (S n) p) as S2. pose proof (b_pos (S (S n)) (p - 1)).
  pose proof (hsm_le (S (S n)) (b (S (S n)) (p - 1)) (p - 1) ltac:(lia) ltac:(replace (S (p - 1)) with p by lia;
    lia)) as C1.
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
  pose proof (b_step (S n) q ltac:(lia)) as S1. pose proof (b_step (S (S n)) q ltac:(lia)) as S0.
  pose proof (b_SS (S n) q) as S2.
  pose proof (b_pos (S (S n)) (q - 1)). pose proof (b_pos (S n) q).
  pose proof (on_line (S (S n)) (b (S (S n)) (q - 1)) (q - 1) ltac:(lia) ltac:(replace (S (q - 1)) with q by lia;
    lia)) as C1.
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
    pose proof (on_line (S n) (b (S n) q) (q - 1) ltac:(lia) ltac:(replace (S (q - 1)) with q by lia;
      pose proof (b_up (S n) (q - 1)); replace (S (q - 1)) with q in * by lia; lia)) as C3.
    replace (q - 1 + 2) with (q + 1) in * by lia.
    replace (t - b (S (S n)) q - b (S n) q) with (t - (b (S (S n)) q + b (S n) q)) by lia.
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
(* and at least so much *)
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
(* the ratio on a stretch *)
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

(* one pass is at most a seventh from there on *)
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
        all: match goal with H : ?x <= b (_ - 1) _ |- _ => let v :=
          eval vm_compute in x in change x with v in H end; lia.
    + nia.
Qed.
