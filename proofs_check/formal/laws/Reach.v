(* Schedules that reach a recurrence: each kind of cut, carried out beside whatever else is stored. *)
From Membptt Require Import Laws Projection.

(* the same stored sets *)
Definition same (s s' : st) := (forall x, hid s x = hid s' x) /\ (forall p, int s p = int s' p).

(* the t steps from a can start: the machine is at a, which is stored, nothing is stored above, and f slots are free *)
Definition Ready pol hi m a t f s :=
  lft s = a + t /\ a + t <= hi /\ pos s = Some a /\ core s = None /\ available pol (hid s) (int s) a = true /\
  (forall x, a < x -> hid s x = false) /\ (forall p, a <= p -> int s p = false) /\
  room pol hi s + f <= m.

(* f free slots are enough to do any t steps in c forwards, each recorded once, and to leave everything else as it
   was *)
Definition Solves pol t f c := forall hi m a s, Ready pol hi m a t f s ->
  exists l, run pol hi m s l /\ core (fin s l) = None /\ lft (fin s l) = a /\ same (fin s l) s /\
    cost (map fst l) = c /\
            recorded (map fst l) = t.

(* take the same slots *)
Lemma room_same : forall pol hi s s', same s s' -> room pol hi s = room pol hi s'.
Proof.
  intros pol hi s s' (A & B). rewrite !room_sumr. apply sumr_ext. intros x _. unfold weight.
  rewrite A, B. f_equal. destruct x; simpl; auto.
Qed.
(* and allow the same restarts *)
Lemma available_same : forall pol s s' q, same s s' ->
  available pol (hid s) (int s) q = available pol (hid s') (int s') q.
Proof. intros pol s s' q (A & B). unfold available. rewrite A, B. f_equal. f_equal. destruct q; simpl; auto. Qed.

Ltac count := cbn [map fst cost span snd Nat.add]; lia.

(* no steps *)
Lemma solve_none : forall pol f, Solves pol 0 f 0.
Proof.
  intros pol f hi m a s (A & _ & _ & B & _). exists []. simpl. repeat split; auto; try lia.
Qed.

(* store nothing: run to the last step, record it, backward, and go back to the start *)
Lemma solve_last : forall pol t f c, Solves pol t f c -> Solves pol (S t) f (S t + c).
Proof.
  intros pol t f c IH hi m a [w k h i n] (A & B & C & D & E & F & G & H). simpl in *. subst.
  set (s1 := mk (Some (S (a + t))) (Some (a + t)) h i (a + S t)). set (s2 := mk None None h i (a + t)).
  set (s3 := mk (Some a) None h i (a + t)).
  destruct (IH hi m a s3) as (l & R & L1 & L2 & L3 & L4 & L5).
  { unfold s3; repeat split; simpl; auto; try lia; intros; try apply F; try apply G; lia. }
  assert (R' : exists l0, run pol hi m (mk (Some a) None h i (a + S t)) l0 /\
    fin (mk (Some a) None h i (a + S t)) l0 = s1 /\
                          cost (map fst l0) = S t /\ recorded (map fst l0) = 1).
  { destruct t.
    - exists [(Record a, mk (Some (S a)) (Some a) h i (a + 1))].
      split; [|split; [unfold s1; rewrite Nat.add_0_r; auto | split; [count | reflexivity]]].
      split; [constructor; lia|]. split; [|exact I]. unfold room in *. simpl in *. lia.
    - exists [(Advance a (a + S t), mk (Some (a + S t)) None h i (a + S (S t))); (Record (a + S t), s1)]. unfold s1.
      split; [|split; [reflexivity | split; [count | reflexivity]]].
      split; [constructor; lia|]. split; [unfold room in *; simpl in *; lia|].
      split; [constructor; lia|]. split; [|exact I]. unfold room in *. simpl in *. lia. }
  destruct R' as (l0 & R0 & F0 & C0 & N0).
  exists (l0 ++ (Backpropagate (a + t), s2) :: (Restore a, s3) :: l). rewrite fin_app, F0. simpl.
  repeat split; auto; try apply L3.
  - rewrite run_app, F0. split; auto. split.
    { unfold s1. replace (a + S t) with (S (a + t)) by lia. constructor. }
    split. { unfold room in *. simpl in *. lia. }
    split. { constructor. auto. }
    split; auto. unfold room in *. simpl in *. lia.
  - rewrite map_app, cost_app, C0. count.
  - rewrite map_app, recorded_app, N0. simpl. lia.
Qed.

(* what a store changes *)
Lemma room_add_hidden : forall pol hi s w c n x, x <= hi ->
  room pol hi (mk w c (add (hid s) x) (int s) n) + weigh pol (hid s x) (output (int s) x) (int s x)
  = room pol hi s + weigh pol true (output (int s) x) (int s x).
Proof.
  intros. rewrite !room_sumr. simpl.
  pose proof (sumr_change (weight pol (add (hid s) x) (int s)) (weight pol (hid s) (int s)) x 0 (S hi) ltac:(lia)) as E.
  assert (E1 : weight pol (add (hid s) x) (int s) x = weigh pol true (output (int s) x) (int s x)).
  { unfold weight, add. now rewrite Nat.eqb_refl. }
  assert (E2 : weight pol (hid s) (int s) x = weigh pol (hid s x) (output (int s) x) (int s x)) by reflexivity.
  rewrite E1, E2 in E. apply E.
  intros y Hy. unfold weight, add. rewrite (proj2 (Nat.eqb_neq y x)) by lia. auto.
Qed.
(* the same for an internal state *)
Lemma room_add_internal : forall pol hi s w c n p, p < hi -> int s p = false ->
  room pol hi (mk w c (hid s) (add (int s) p) n) + weigh pol (hid s p) (output (int s) p) false
    + weigh pol (hid s (S p)) false (int s (S p))
  = room pol hi s + weigh pol (hid s p) (output (int s) p) true + weigh pol (hid s (S p)) true (int s (S p)).
Proof.
  intros pol hi s w c n p Hp H. rewrite !room_sumr. simpl.
  rewrite !(sumr_split _ 0 p (S hi)), !(sumr_split _ p (S p) (S hi)), !(sumr_split _ (S p) (S (S p)) (S hi)),
    !sumr_one by lia.
  assert (E : forall y, y <> p -> y <> S p -> weight pol (hid s) (add (int s) p) y = weight pol (hid s) (int s) y).
  { intros y H1 H2. unfold weight. f_equal.
    - destruct y; simpl; auto. unfold add. rewrite (proj2 (Nat.eqb_neq y p)) by lia. auto.
    - unfold add. rewrite (proj2 (Nat.eqb_neq y p)) by lia. auto. }
  rewrite (sumr_ext (weight pol (hid s) (add (int s) p)) (weight pol (hid s) (int s)) 0 p) by (intros; apply E; lia).
  rewrite (sumr_ext (weight pol (hid s) (add (int s) p)) (weight pol (hid s) (int s)) (S (S p)) (S hi)) by (intros;
    apply E; lia).
  assert (E1 : weight pol (hid s) (add (int s) p) p = weigh pol (hid s p) (output (int s) p) true).
  { unfold weight. f_equal. destruct p; simpl; auto. unfold add. rewrite (proj2 (Nat.eqb_neq p (S p))) by lia. auto.
    unfold add. now rewrite Nat.eqb_refl. }
  assert (E2 : weight pol (hid s) (add (int s) p) (S p) = weigh pol (hid s (S p)) true (int s (S p))).
  { unfold weight. simpl. unfold add. rewrite Nat.eqb_refl, (proj2 (Nat.eqb_neq (S p) p)) by lia. auto. }
  assert (E3 : weight pol (hid s) (int s) p = weigh pol (hid s p) (output (int s) p) false).
  { unfold weight. now rewrite H. }
  assert (E4 : weight pol (hid s) (int s) (S p) = weigh pol (hid s (S p)) false (int s (S p))).
  { unfold weight. simpl. now rewrite H. }
  lia.
Qed.

(* a hidden cut: run y steps, store the state there, do the right part, drop it, do the left part *)
Lemma solve_hidden : forall pol t y f c1 c2, hidden_ok pol = true ->
  weigh pol true false false <= 1 ->
  1 <= y < t -> Solves pol y (S f) c1 -> Solves pol (t - y) f c2 -> Solves pol t (S f) (y + c1 + c2).
Proof.
  intros pol t y f c1 c2 O W Hy L R hi m a [w k h i n] (A & B & C & D & E & F & G & H). simpl in *. subst.
  set (x := a + y). set (h1 := add h x). set (n := a + t).
  set (s0 := mk (Some x) None h i n). set (s1 := mk (Some x) None h1 i n).
  assert (W1 : room pol hi s1 <= m - f).
  { assert (O1 : output i x = false).
    { unfold x. destruct y; [lia|]. rewrite Nat.add_succ_r. simpl. apply G. lia. }
    pose proof (room_add_hidden pol hi s0 (Some x) None n x ltac:(unfold x; lia)) as W1. unfold s0 in W1. simpl in W1.
    rewrite O1, (F x), (G x) in W1 by (unfold x; lia). unfold s1, h1. unfold room in *. simpl in *. lia. }
  assert (W2 : room pol hi s1 + f <= m) by (unfold room in *; simpl in *; lia).
  destruct (R hi m x s1) as (l1 & R1 & D1 & D2 & D3 & D4 & D6).
  { unfold s1, n, x; repeat split; simpl; auto; try lia.
    - unfold available, h1, add, x. rewrite Nat.eqb_refl. auto.
    - intros z Hz. unfold h1, add, x. rewrite (proj2 (Nat.eqb_neq z (a + y))) by lia. apply F. lia.
    - intros z Hz. apply G. lia. }
  remember (fin s1 l1) as s2 eqn:E2. destruct s2 as [w2 k2 h2 i2 n2]. simpl in D1, D2. subst k2 n2.
  destruct D3 as (D3 & D5). unfold s1 in D3, D5. simpl in D3, D5.
  set (s3 := mk w2 None (del h2 x) i2 x). set (s4 := mk (Some a) None (del h2 x) i2 x).
  assert (Sm : same s4 (mk (Some a) None h i n)).
  { unfold s4; split; simpl; auto. intros z. unfold del. rewrite D3. unfold h1, add. destruct (Nat.eqb_spec z x); auto.
    subst z. symmetry. apply F. unfold x. lia. }
  assert (W4 : room pol hi s4 + S f <= m).
  { rewrite (room_same _ _ _ _ Sm). unfold room in *; simpl in *; lia. }
  destruct (L hi m a s4) as (l2 & R2 & G1 & G2 & G3 & G4 & G5).
  { destruct Sm as (S1 & S2). unfold s4 in *. simpl in S1, S2. repeat split; simpl; auto; try (unfold x; lia).
    - rewrite <- E. exact (available_same pol s4 (mk (Some a) None h i n) a (conj S1 S2)).
    - intros z Hz. rewrite S1. apply F. unfold x in *; lia.
    - intros z Hz. rewrite S2. apply G. unfold x in *; lia. }
  exists ((Advance a x, s0) :: (StoreHidden x, s1) :: l1 ++ (DropHidden x, s3) :: (Restore a, s4) :: l2).
  simpl. rewrite fin_app, <- E2. simpl. repeat split; auto.
  - constructor; unfold x; lia.
  - unfold s0, room in *; simpl in *; lia.
  - constructor; auto. apply F. unfold x; lia.
  - lia.
  - rewrite run_app, <- E2. split; auto. split.
    { apply DrH; auto. rewrite D3. unfold h1, add. rewrite Nat.eqb_refl. auto. }
    split. { unfold s3, s4, room in *; simpl in *; lia. }
    split. { constructor. rewrite <- E. exact (available_same pol s4 (mk (Some a) None h i n) a Sm). }
    split; auto. lia.
  - destruct G3 as (G3 & _), Sm as (Sm & _). intros. rewrite G3. apply Sm.
  - destruct G3 as (_ & G3), Sm as (_ & Sm). intros. rewrite G3. apply Sm.
  - rewrite map_app, cost_app, D4. simpl. rewrite G4. unfold x. lia.
  - rewrite map_app, recorded_app, D6. simpl. rewrite G5. lia.
Qed.

(* an internal cut: run y - 1 steps, record step y and store its internal state, w slots; do the right part; load it,
   backward, do the left part. Its input is stored already (y = 1), or not. *)
Lemma solve_internal : forall pol t y f w c1 c2, internal_ok pol = true ->
  (y = 1 /\ (forall h o, h || o = true -> weigh pol h o true <= weigh pol h o false) /\
    weigh pol false true false <= w \/
   2 <= y /\ weigh pol false false true + weigh pol false true false <= w) ->
  1 <= y <= t -> Solves pol (y - 1) (f + w) c1 -> Solves pol (t - y) f c2 -> Solves pol t (f + w) (y + c1 + c2).
Proof.
  intros pol t y f w c1 c2 O W Hy L R hi m a [q k h i n] (A & B & C & D & E & F & G & H). simpl in *. subst.
  set (p := a + (y - 1)). assert (Hp : a + y = S p) by (unfold p; lia). set (i1 := add i p). set (n := a + t).
  set (s0 := mk (Some (S p)) (Some p) h i n). set (s1 := mk (Some (S p)) None h i1 n).
  assert (W1 : room pol hi s1 + f <= m).
  { pose proof (room_add_internal pol hi s0 (Some (S p)) None n p ltac:(lia)) as W1. unfold s0 in W1. simpl in W1.
    rewrite (F (S p)), (G (S p)), (G p) in W1 by lia. specialize (W1 eq_refl).
    assert (weigh pol (h p) (output i p) true + weigh pol false true false <= weigh pol (h p) (output i p) false + w).
    { destruct W as [(-> & W2 & W3)|(H2 & W2)].
      - assert (Ep : p = a) by (unfold p; lia). clearbody p. subst p. specialize (W2 (h a) (output i a)).
        unfold available in E. rewrite (G a), andb_false_r, orb_false_r in E by lia. specialize (W2 E). lia.
      - rewrite (F p) by (unfold p; lia). assert (O1 : output i p = false).
        { unfold p. destruct y; [lia|]. destruct y; [lia|]. replace (S (S y) - 1) with (S y) by lia.
          rewrite Nat.add_succ_r. simpl. apply G. lia. }
        rewrite O1. lia. }
    unfold s1, i1. unfold room in *. simpl in *. lia. }
  assert (T : exists l0, run pol hi m (mk (Some a) None h i n) l0 /\ fin (mk (Some a) None h i n) l0 = s1 /\
                         cost (map fst l0) = y /\ recorded (map fst l0) = 1).
  { destruct (Nat.eq_dec y 1) as [->|Hy1].
    - assert (Ep : p = a) by (unfold p; lia). clearbody p. subst p.
      exists [(Record a, s0); (StoreInternal a, s1)].
      split; [|split; [reflexivity | split; [count | reflexivity]]].
      split; [constructor; lia|]. split; [unfold s0, room in *; simpl in *; lia|].
      split; [constructor; auto|]. split; [lia | exact I].
    - exists [(Advance a p, mk (Some p) None h i n); (Record p, s0); (StoreInternal p, s1)].
      split; [|split; [reflexivity | split; [unfold p; count | reflexivity]]].
      split; [constructor; unfold p; lia|]. split; [unfold room in *; simpl in *; lia|].
      split; [constructor; lia|]. split; [unfold s0, room in *; simpl in *; lia|].
      split; [constructor; auto; apply G; unfold p; lia|]. split; [lia | exact I]. }
  destruct T as (l0 & R0 & F0 & C0 & N0).
  destruct (R hi m (S p) s1) as (l1 & R1 & D1 & D2 & D3 & D4 & D6).
  { unfold s1, n; repeat split; simpl; auto; try lia.
    - unfold available, i1, add. simpl. rewrite Nat.eqb_refl. now rewrite orb_true_r.
    - intros z Hz. apply F. unfold p in *; lia.
    - intros z Hz. unfold i1, add. rewrite (proj2 (Nat.eqb_neq z p)) by lia. apply G. unfold p in *; lia. }
  remember (fin s1 l1) as s2 eqn:E2. destruct s2 as [w2 k2 h2 i2 n2]. simpl in D1, D2. subst k2 n2.
  destruct D3 as (D3 & D5). unfold s1 in D3, D5. simpl in D3, D5.
  set (s3 := mk (Some (S p)) (Some p) h2 (del i2 p) (S p)). set (s4 := mk None None h2 (del i2 p) p).
  set (s5 := mk (Some a) None h2 (del i2 p) p).
  assert (Sm : same s5 (mk (Some a) None h i n)).
  { unfold s5; split; simpl; auto. intros z. unfold del. rewrite D5. unfold i1, add. destruct (Nat.eqb_spec z p); auto.
    subst z. symmetry. apply G. unfold p; lia. }
  assert (W5 : room pol hi s5 + (f + w) <= m).
  { rewrite (room_same _ _ _ _ Sm). unfold room in *; simpl in *; lia. }
  destruct (L hi m a s5) as (l2 & R2 & G1 & G2 & G3 & G4 & G5).
  { destruct Sm as (S1 & S2). unfold s5 in *. simpl in S1, S2. repeat split; simpl; auto; try (unfold p; lia).
    - rewrite <- E. exact (available_same pol s5 (mk (Some a) None h i n) a (conj S1 S2)).
    - intros z Hz. rewrite S1. apply F. lia.
    - intros z Hz. rewrite S2. apply G. lia. }
  exists (l0 ++ l1 ++ (LoadInternal p, s3) :: (Backpropagate p, s4) :: (Restore a, s5) :: l2).
  rewrite !fin_app, F0, <- E2. simpl. repeat split; auto.
  - rewrite run_app, F0. split; auto. rewrite run_app, <- E2. split; auto. split.
    { constructor. rewrite D5. unfold i1, add. rewrite Nat.eqb_refl. auto. }
    split. { unfold s3, s5, room in *; simpl in *; lia. }
    split. { constructor. }
    split. { unfold s4, s5, room in *; simpl in *; lia. }
    split. { constructor. rewrite <- E. exact (available_same pol s5 (mk (Some a) None h i n) a Sm). }
    split; auto. lia.
  - destruct G3 as (G3 & _), Sm as (Sm & _). intros. rewrite G3. apply Sm.
  - destruct G3 as (_ & G3), Sm as (_ & Sm). intros. rewrite G3. apply Sm.
  - rewrite !map_app, !cost_app, C0, D4. simpl. rewrite G4. lia.
  - rewrite !map_app, !recorded_app, N0, D6. simpl. rewrite G5. lia.
Qed.

(* from the start, with f slots free beside it; at the end the start is dropped, if it takes a slot *)
Lemma solve_complete : forall pol t f c m, Solves pol t f c -> weigh pol false false false = 0 ->
  (hidden_ok pol = true \/ weigh pol true false false = 0) -> weigh pol true false false + f <= m ->
  exists l, complete pol m t l = true /\ cost l = c /\ recorded l = t.
Proof.
  intros pol t f c m H Z O W.
  assert (E : room pol t (init 0 t) = weigh pol true false false).
  { rewrite room_sumr, (sumr_at _ 0 0 (S t)) by lia. rewrite !sumr_zero by (intros [|x] ?; [lia | exact Z]).
    unfold weight, init. simpl. rewrite Nat.eqb_refl. lia. }
  destruct (H t m 0 (init 0 t)) as (l & R & A & B & D & G & N).
  { unfold init; repeat split; simpl; auto; intros; cases. unfold init in E. lia. }
  pose proof (room_same pol t _ _ D) as Er.
  destruct O as [O|O].
  - remember (fin (init 0 t) l) as s eqn:Es. destruct s as [w k h i n]. simpl in A, B. subst k n.
    set (s1 := mk w None (del h 0) i 0). destruct D as (D1 & D2). simpl in D1, D2.
    assert (E1 : room pol t s1 = 0).
    { rewrite room_sumr. apply sumr_zero. intros x _. unfold weight, s1; simpl. rewrite D2, <- Z. f_equal.
      - unfold del. rewrite D1. cases.
      - destruct x; simpl; auto. }
    exists (map fst (l ++ [(DropHidden 0, s1)])). split; [|split].
    + apply run_complete; rewrite ?fin_app; simpl; auto. rewrite run_app, <- Es. split; auto. split.
      { apply DrH; auto. rewrite D1. auto. }
      split; [lia | exact I].
    + rewrite map_app, cost_app, G. simpl. lia.
    + rewrite map_app, recorded_app, N. simpl. lia.
  - exists (map fst l). split; auto. apply run_complete; auto. lia.
Qed.
