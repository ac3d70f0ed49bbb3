(* The model on the machine of Machine.v: what a policy does on the way does not depend on the end, and for every end
   the rest completes a legal schedule of exactly `online P t` forwards. *)
From Membptt Require Import Laws Projection Cut Reach Values Hsm Ism Closed Online.

Local Notation room := (room HSM).
(* no internal state is stored *)
Definition none (i : set) := forall p, i p = false.

(* the slots in use: as many as states *)
Lemma room_count : forall hi s, room hi s = sumr (fun x => if hid s x then 1 else 0) 0 (S hi).
Proof. intros. rewrite room_sumr. apply sumr_ext. intros. reflexivity. Qed.
(* no more than a list that holds them *)
Lemma sumr_list : forall (f : set) l a c, (forall x, a <= x < c -> f x = true -> In x l) ->
  sumr (fun x => if f x then 1 else 0) a c <= length l.
Proof.
  intros f l a c H. unfold sumr.
  assert (G : forall n a, exists l', NoDup l' /\ length l' = sum (fun x => if f x then 1 else 0) a n /\ forall x,
    In x l' -> a <= x < a + n /\ f x = true).
  { induction n; intros a'. { exists []. simpl. split; [constructor|]. split; auto. intros x []. }
    destruct (IHn (S a')) as (l' & A & B & C). cbn [sum]. destruct (f a') eqn:E.
    - exists (a' :: l'). split. constructor; auto. intros I. apply C in I. lia. split. simpl; lia.
      intros x [<-|I]. split; auto; lia. apply C in I. split; [lia | tauto].
    - exists l'. split; auto. split. lia. intros x I. apply C in I. split; [lia | tauto]. }
  destruct (G (c - a) a) as (l' & A & B & C). rewrite <- B. apply NoDup_incl_length; auto. intros x I. apply C in I.
  apply H; [lia | tauto].
Qed.
(* a dropped state frees a slot *)
Lemma room_del : forall hi w k h i n w' k' i' n' x, x <= hi -> h x = true ->
  room hi (mk w' k' (del h x) i' n') + 1 = room hi (mk w k h i n).
Proof.
  intros. rewrite !room_count. cbn [hid].
  assert (Z : del h x x = false) by (unfold del; now rewrite Nat.eqb_refl).
  pose proof (sumr_change (fun y => if del h x y then 1 else 0) (fun y =>
    if h y then 1 else 0) x 0 (S hi) ltac:(lia)) as E.
  cbv beta in E. rewrite H0, Z in E. rewrite E; [lia|].
  intros y Hy. unfold del. rewrite (proj2 (Nat.eqb_neq y x)) by lia. auto.
Qed.
(* nothing else matters *)
Lemma room_w : forall hi w k h i n w' k' i' n', room hi (mk w' k' h i' n') = room hi (mk w k h i n).
Proof. intros. rewrite !room_count. reflexivity. Qed.

(* ---------------------------------------------------------------- the gaps, the last one first *)

(* the gaps, from the last to the first, each in the slots that are free by then *)
Lemma gaps : forall r a t hi m ms s, rising a r t -> t <= hi -> S (length r) <= ms ->
  core s = None -> lft s = t - 1 -> none (int s) -> hid s a = true -> (forall x, In x r -> hid s x = true) ->
  (forall x, a < x -> hid s x = true -> In x r) -> room hi s + (ms - 1 - length r) <= m ->
  exists l, run HSM hi m s l /\ core (Machine.fin s l) = None /\ lft (Machine.fin s l) = a /\
    none (int (Machine.fin s l)) /\
    (forall x, hid (Machine.fin s l) x = hid s x && (x <=? a)) /\ room hi (Machine.fin s l) + length r = room hi s /\
      cost (map fst l) = Online.fin a r t ms.
Proof.
  assert (Go : forall L a hi m f s, core s = None -> lft s = a + L -> a + L <= hi -> none (int s) -> hid s a = true ->
    (forall x, a < x -> hid s x = false) -> room hi s + f <= m ->
    exists l, run HSM hi m s l /\ core (Machine.fin s l) = None /\ lft (Machine.fin s l) = a /\
      same (Machine.fin s l) s /\ cost (map fst l) = hsm L (S f)).
  { intros L a hi m f [w k h i n] A B C D E F G. cbn [core lft int hid] in *. subst k n.
    destruct (hsm_solves f L hi m a (mk (Some a) None h i (a + L))) as (l & R & R1 & R2 & R3 & R4 & R5).
    { repeat split; cbn [lft pos core hid int]; auto; try (unfold available; now rewrite E). }
    exists ((Restore a, mk (Some a) None h i (a + L)) :: l). cbn [run Machine.fin map fst cost span snd].
    split; [|auto].
    split. { constructor. unfold available. now rewrite E. } split; auto. rewrite (room_w hi w None h i (a + L)). lia. }
  induction r as [|x r IH]; intros a t hi m ms s R Ht Hl A B C D E F G.
  - cbn [rising length] in *. destruct ms as [|f]; [lia|].
    destruct (Go (t - 1 - a) a hi m f s) as (l & R0 & R1 & R2 & (R3 & R4) & R5); auto; try lia.
    { intros x Hx. destruct (hid s x) eqn:Q; auto. destruct (F x Hx Q). }
    exists l. split; auto. split; auto. split; auto. split. { intros p. rewrite R4. apply C. }
    split. { intros x. rewrite R3. destruct (Nat.leb_spec x a). now rewrite andb_true_r. rewrite andb_false_r.
      destruct (hid s x) eqn:Q; auto. destruct (F x ltac:(lia) Q). }
    split; auto. rewrite (room_same HSM hi _ _ (conj R3 R4)). lia.
  - cbn [rising length] in *. destruct R as (R & R'). pose proof (rising_lt _ _ _ R').
    assert (E' : forall y, In y r -> hid s y = true) by (intros; apply E; right; auto).
    assert (F' : forall y, x < y -> hid s y = true -> In y r) by (intros y Hy Q; destruct (F y ltac:(lia) Q); auto;
      lia).
    pose proof (E x (or_introl eq_refl)) as Ex.
    destruct (IH x t hi m (ms - 1) s R' Ht ltac:(lia) A B C Ex E' F' ltac:(lia)) as (l & R0 & R1 & R2 & R3 & R4 & R5 &
      R6).
    remember (Machine.fin s l) as s1 eqn:E1. destruct s1 as [w1 k1 h1 i1 n1]. cbn [core lft int hid] in *. subst k1 n1.
    assert (Hx : h1 x = true) by (rewrite R4, (E x (or_introl eq_refl)), Nat.leb_refl; auto).
    set (s2 := mk w1 None (del h1 x) i1 x). assert (Rm : room hi s2 + 1 = room hi (mk w1 None h1 i1 x)) by
      (apply room_del; auto; lia).
    destruct ms as [|ms]; [lia|]. replace (S ms - 1) with ms in * by lia.
    destruct (Go (x - a) a hi m ms s2) as (l2 & Q0 & Q1 & Q2 & (Q3 & Q4) & Q5); unfold s2; cbn [core lft int hid];
      auto; try lia.
    { unfold del. rewrite (proj2 (Nat.eqb_neq a x)), R4, D by lia. apply Nat.leb_le. lia. }
    { intros y Hy. unfold del. destruct (Nat.eqb_spec y x); auto. rewrite R4. destruct (Nat.leb_spec y x);
        [|apply andb_false_r].
      rewrite andb_true_r. destruct (hid s y) eqn:Q; auto. destruct (F y Hy Q) as [->|I]; [lia|].
      pose proof (rising_in _ _ _ _ R' I). lia. }
    { fold s2. lia. }
    exists (l ++ (DropHidden x, s2) :: l2). rewrite fin_app, <- E1. cbn [Machine.fin].
    fold s2 in Q0, Q1, Q2, Q3, Q4, Q5.
    split. { rewrite run_app, <- E1. split; auto. cbn [run]. split; [constructor; auto|]. split; auto. lia. }
    split; auto. split; auto. split. { intros p. rewrite Q4. unfold s2. cbn [int]. apply R3. }
    split. { intros y. rewrite Q3. unfold s2. cbn [hid]. unfold del. destruct (Nat.eqb_spec y x) as [->|].
      - destruct (Nat.leb_spec x a); [lia|]. now rewrite andb_false_r.
      - rewrite R4. destruct (hid s y) eqn:Q; auto. simpl.
        destruct (Nat.leb_spec y a), (Nat.leb_spec y x); auto; try lia.
        destruct (F y ltac:(lia) Q) as [->|I]; [lia|]. pose proof (rising_in _ _ _ _ R' I). lia. }
    split. { rewrite (room_same HSM hi _ _ (conj Q3 Q4)). lia. }
    rewrite map_app, cost_app. cbn [map fst cost span snd Online.fin]. replace (S ms - 1) with ms by lia. lia.
Qed.

(* ---------------------------------------------------------------- what is done on the way *)

(* x is in the list *)
Definition inb x (l : list nat) := existsb (Nat.eqb x) l.
(* as a program and as a statement *)
Lemma inb_in : forall x l, inb x l = true <-> In x l.
Proof. intros. unfold inb. rewrite existsb_exists. split. intros (y & A & B). apply Nat.eqb_eq in B. subst; auto.
intros. exists x. rewrite Nat.eqb_refl. auto. Qed.
(* those of H that are not in K *)
Definition drops (H K : list nat) := filter (fun x => negb (inb x K)) (nodup Nat.eq_dec H).
(* what was held and is not to be *)
Lemma drops_in : forall H K x, In x (drops H K) <-> In x H /\ ~ In x K.
Proof.
  intros. unfold drops. rewrite filter_In, nodup_In, negb_true_iff. destruct (inb x K) eqn:E.
  - apply inb_in in E. split; intros (A & B); [discriminate | tauto].
  - split; intros (A & B); split; auto. intros I. apply inb_in in I. congruence.
Qed.
(* the actions before step t - 1 is run *)
Fixpoint road {m} (P : online_policy m) t : list act := match t with 0 => [] | S t' => match t' with 0 => [] | _ =>
  road P t' ++ Advance (t' - 1) t' :: map DropHidden (drops (held P t') (held P t)) ++
  (if inb t' (held P t) then [StoreHidden t'] else []) end end.

(* dropping them *)
Lemma drop_run : forall D s hi m, NoDup D -> (forall x, In x D -> hid s x = true /\ x <= hi) -> room hi s <= m ->
  exists l, run HSM hi m s l /\ map fst l = map DropHidden D /\ pos (Machine.fin s l) = pos s /\
    core (Machine.fin s l) = core s /\
    lft (Machine.fin s l) = lft s /\ int (Machine.fin s l) = int s /\ (forall x, hid (Machine.fin s l) x = true <->
      hid s x = true /\ ~ In x D).
Proof.
  induction D as [|d D IH]; intros [w k h i n] hi m N H R.
  - exists []. cbn. repeat split; auto; tauto.
  - inversion N; subst. destruct (H d (or_introl eq_refl)) as (Hd & Hh). cbn [hid] in *.
    pose proof (room_del hi w k h i n w k i n d Hh Hd) as E.
    destruct (IH (mk w k (del h d) i n) hi m H3) as (l & A & B & C1 & C2 & C3 & C4 & C5); [|lia|].
    { intros x I. cbn [hid]. destruct (H x (or_intror I)). split; auto. unfold del. destruct (Nat.eqb_spec x d);
        auto. subst. tauto. }
    exists ((DropHidden d, mk w k (del h d) i n) :: l). cbn [run Machine.fin map fst pos core lft int hid] in *.
    split. { split; [constructor; auto|]. split; auto. lia. }
    split. { now rewrite B. } repeat split; auto.
    + apply C5 in H0. destruct H0 as (G & _). unfold del in G. destruct (x =? d); auto. discriminate.
    + apply C5 in H0. destruct H0 as (G & F). unfold del in G. destruct (Nat.eqb_spec x d); [discriminate|].
      intros [->|I]; auto.
    + intros (G & F). apply C5. unfold del. destruct (Nat.eqb_spec x d) as [->|]. { exfalso. apply F. left; auto. }
      split; auto. intros I. apply F. right; auto.
Qed.

(* between two steps: state t - 1 is here, 0 and H are stored *)
Definition On T t s (H : list nat) := pos s = Some (t - 1) /\ core s = None /\ lft s = T /\ none (int s) /\
  (forall x, hid s x = true <-> x = 0 \/ In x H).
(* the slots of what is held *)
Lemma stored_room : forall hi s H, (forall x, hid s x = true <-> x = 0 \/ In x H) -> room hi s <= S (length H).
Proof.
  intros hi s H E. rewrite room_count. apply (sumr_list (hid s) (0 :: H)). intros x _ I. apply E in I.
  destruct I; [left|right]; auto.
Qed.

(* the way is a legal beginning, and leaves what the policy holds *)
Lemma road_ok : forall m (P : online_policy m) T t, 1 <= t <= T -> exists l, run HSM T m (init 0 T) l /\
  map fst l = road P t /\
  On T t (Machine.fin (init 0 T) l) (held P t) /\ cost (road P t) = t - 1.
Proof.
  intros m P T t. induction t as [|t IH]; intros Ht; [lia|]. destruct (Nat.eq_dec t 0) as [->|Hz].
  - exists []. cbn. repeat split; auto. intros Q. apply Nat.eqb_eq in Q; auto.
    intros [->|I]; auto. pose proof (passed m P 1 x ltac:(lia) I). lia.
  - destruct (IH ltac:(lia)) as (l & A & B & (C1 & C2 & C3 & C4 & C5) & D).
    remember (Machine.fin (init 0 T) l) as s eqn:Es. destruct s as [w k h i n]. cbn [pos core lft int hid] in *.
    subst w k n.
    set (s1 := mk (Some t) None h i T).
    assert (F0 : S (length (held P t)) <= m) by (apply (fits m P t); lia).
    assert (R1 : room T s1 <= m). { pose proof (stored_room T s1 (held P t) C5). lia. }
    destruct (drop_run (drops (held P t) (held P (S t))) s1 T m) as (l1 & A1 & B1 & G1 & G2 & G3 & G4 & G5); auto.
    { unfold drops. apply NoDup_filter, NoDup_nodup. }
    { intros x I. apply drops_in in I. destruct I as (I & _). split; [apply C5;
      auto|]. pose proof (passed m P t x ltac:(lia) I). lia. }
    assert (Ro : road P (S t) = road P t ++ Advance (t - 1) t :: map DropHidden (drops (held P t) (held P (S t))) ++
                 (if inb t (held P (S t)) then [StoreHidden t] else [])). { destruct t; [lia|]. reflexivity. }
    assert (Co : forall D, cost (map DropHidden D) = 0) by (intros D'; induction D'; cbn [map cost span snd fst]; lia).
    remember (Machine.fin s1 l1) as s2 eqn:E2. destruct s2 as [w2 k2 h2 i2 n2]. cbn [pos core lft int hid s1] in *.
    subst w2 k2 n2 i2.
    assert (Base : run HSM T m (init 0 T) (l ++ (Advance (t - 1) t, s1) :: l1)).
    { rewrite run_app, <- Es. split; auto. cbn [run]. split; [constructor; lia|]. auto. }
    assert (Bf : Machine.fin (init 0 T) (l ++ (Advance (t - 1) t, s1) :: l1) = mk (Some t) None h2 i T).
    { rewrite fin_app, <- Es. cbn [Machine.fin]. auto. }
    assert (K : forall x, h2 x = true <-> x = 0 \/ In x (held P t) /\ In x (held P (S t))).
    { intros x. rewrite G5, C5, drops_in. destruct (in_dec Nat.eq_dec x (held P (S t))); [tauto|].
      split; [|intros [->|(_ & Q)]; [|tauto]]. intros ([->|I] & Q); auto. exfalso. tauto.
      split; auto. intros (Q & _). pose proof (passed m P t 0 ltac:(lia) Q). lia. }
    destruct (inb t (held P (S t))) eqn:I.
    + apply inb_in in I. assert (N2 : h2 t = false).
      { destruct (h2 t) eqn:Q; auto. apply K in Q. destruct Q as [Q|(Q & _)];
        [lia|]. pose proof (passed m P t t ltac:(lia) Q). lia. }
      set (s3 := mk (Some t) None (add h2 t) i T).
      assert (K3 : forall x, hid s3 x = true <-> x = 0 \/ In x (held P (S t))).
      { intros x. unfold s3. cbn [hid]. unfold add. destruct (Nat.eqb_spec x t) as [->|]. { tauto. }
        rewrite K. split; [tauto|]. intros [->|Q]; auto. destruct (only_passed m P t x ltac:(lia) Q); [lia|]. auto. }
      exists ((l ++ (Advance (t - 1) t, s1) :: l1) ++ [(StoreHidden t, s3)]). rewrite fin_app, Bf. cbn [Machine.fin].
      split. { rewrite run_app, Bf. split; auto. cbn [run]. split; [constructor; auto|]. split; auto.
        pose proof (stored_room T s3 _ K3). pose proof (fits m P (S t) ltac:(lia)). lia. }
      split. { rewrite Ro, !map_app. cbn [map fst]. rewrite B, B1, <- app_assoc. reflexivity. }
      split. { unfold s3. repeat split; auto; cbn [pos]; try apply K3. f_equal. lia. }
      rewrite Ro, cost_app. cbn [cost span fst snd]. rewrite cost_app, Co, D. cbn [cost span fst snd]. lia.
    + assert (I' : ~ In t (held P (S t))) by (intros Q; apply inb_in in Q; congruence).
      exists (l ++ (Advance (t - 1) t, s1) :: l1). rewrite Bf. split; auto.
      split. { rewrite Ro, map_app. cbn [map fst]. rewrite B, B1, app_nil_r. reflexivity. }
      split. { repeat split; cbn [pos]; auto. f_equal. lia.
        - cbn [hid]. intros Q. apply K in Q. tauto.
        - cbn [hid]. intros [->|Q]; apply K; auto. destruct (only_passed m P t x ltac:(lia) Q) as [->|]; tauto. }
      rewrite Ro, cost_app. cbn [cost span fst snd]. rewrite app_nil_r, Co, D. lia.
Qed.

(* A road that leaves H, of which U is used, is completed by the gaps of U. *)
Lemma completed : forall m t road l H U, 1 <= t -> run HSM t m (init 0 t) l -> map fst l = road ->
  On t t (Machine.fin (init 0 t) l) H -> cost road = t - 1 -> S (length H) <= m -> S (length U) <= m -> rising 0 U t ->
  incl U H -> (forall x, In x H -> 0 < x < t) ->
  exists rest, complete HSM m t (road ++ rest) = true /\ cost (road ++ rest) = evals t m U.
Proof.
  intros m t road l H U Ht A B (C1 & C2 & C3 & C4 & C5) D F0 F1 O Of Pa.
  remember (Machine.fin (init 0 t) l) as s eqn:Es. destruct s as [w k h i n]. cbn [pos core lft int hid] in *.
  subst w k n.
  set (s0 := mk (Some (t - 1)) None h i t).
  destruct (drop_run (drops H U) s0 t m) as (l1 & A1 & B1 & G1 & G2 & G3 & G4 & G5).
  { unfold drops. apply NoDup_filter, NoDup_nodup. }
  { intros x I. apply drops_in in I. destruct I as (I & _). split; [apply C5;
    auto|]. pose proof (Pa x I). lia. }
  { pose proof (stored_room t s0 H C5). lia. }
  remember (Machine.fin s0 l1) as s2 eqn:E2. destruct s2 as [w2 k2 h2 i2 n2]. cbn [pos core lft int hid s0] in *.
  subst w2 k2 n2 i2.
  assert (K : forall x, h2 x = true <-> x = 0 \/ In x U).
  { intros x. rewrite G5, C5, drops_in. destruct (in_dec Nat.eq_dec x U) as [I|I].
    - pose proof (Of x I). tauto.
    - split; [|intros [->|Q]; [|tauto]]. intros ([->|Q] & R); auto. exfalso. tauto.
      split; auto. intros (Q & _). pose proof (Pa 0 Q). lia. }
  set (s3 := mk (Some t) (Some (t - 1)) h2 i t). set (s4 := mk None None h2 i (t - 1)).
  assert (Tp : forall t', step HSM (S t') (mk (Some t') None h2 i (S t')) (Record t') (mk (Some (S t')) (Some t') h2 i
    (S t'))) by (intros; constructor; lia).
  assert (Bk : forall t', step HSM (S t') (mk (Some (S t')) (Some t') h2 i (S t')) (Backpropagate t') (mk None None h2
    i t')) by (intros; constructor).
  specialize (Tp (t - 1)). specialize (Bk (t - 1)). replace (S (t - 1)) with t in Tp, Bk by lia. fold s3 in Tp, Bk.
  fold s4 in Bk.
  pose proof (stored_room t s4 U K) as R4.
  destruct (gaps U 0 t t m m s4) as (l2 & Q0 & Q1 & Q2 & Q3 & Q4 & Q5 & Q6); auto.
  { cbn [s4 hid]. apply K. auto. } { intros x I. cbn [s4 hid]. apply K. auto. }
  { intros x Hx I. cbn [s4 hid] in I. apply K in I. destruct I; [lia|auto]. } { lia. }
  remember (Machine.fin s4 l2) as s5 eqn:E5. destruct s5 as [w5 k5 h5 i5 n5]. cbn [core lft int hid] in *. subst k5 n5.
  set (s6 := mk w5 None (del h5 0) i5 0).
  assert (Z : h5 0 = true). { rewrite Q4. simpl. rewrite (proj2 (K 0)); auto. }
  assert (R6 : room t s6 = 0).
  { rewrite room_count. apply sumr_zero. intros x _. unfold s6. cbn [hid]. unfold del. destruct (Nat.eqb_spec x 0);
      auto.
    rewrite Q4. destruct (Nat.leb_spec x 0); [lia|]. now rewrite andb_false_r. }
  exists (map DropHidden (drops H U) ++ Record (t - 1) :: Backpropagate (t - 1) :: map fst l2 ++
    [DropHidden 0]).
  assert (E : road ++ map DropHidden (drops H U) ++ Record (t - 1) :: Backpropagate (t - 1) ::
    map fst l2 ++ [DropHidden 0]
    = map fst (l ++ l1 ++ (Record (t - 1), s3) :: (Backpropagate (t - 1), s4) :: l2 ++ [(DropHidden 0, s6)])).
  { rewrite !map_app. cbn [map fst]. rewrite map_app, B, B1. reflexivity. }
  rewrite E. split.
  - apply run_complete.
    + rewrite run_app, <- Es. split; auto. rewrite run_app. fold s0. rewrite <- E2. split; auto. cbn [run].
      split. { exact Tp. } split. { unfold s3. rewrite (room_w t None None h2 i (t - 1)). fold s4. lia. }
      split. { exact Bk. } split. { lia. }
      rewrite run_app, <- E5. split; auto. cbn [run]. split. { constructor; auto. } split; auto. lia.
    + rewrite fin_app, <- Es, fin_app. fold s0. rewrite <- E2. cbn [Machine.fin]. rewrite fin_app, <- E5. reflexivity.
    + rewrite fin_app, <- Es, fin_app. fold s0. rewrite <- E2. cbn [Machine.fin]. rewrite fin_app, <- E5.
      cbn [Machine.fin]. auto.
  - rewrite !map_app. cbn [map fst]. rewrite map_app, B, B1. rewrite !cost_app. cbn [cost span fst snd map].
    rewrite cost_app, Q6, D.
    assert (Co : forall D, cost (map DropHidden D) = 0) by (intros D'; induction D'; cbn [map cost span snd fst];
      lia). rewrite Co.
    cbn [cost span fst snd]. unfold evals. lia.
Qed.

(* for every policy and every end there is a legal, complete schedule of online P t forwards that begins with the
   road *)
Theorem online_real : forall m (P : online_policy m) t, 1 <= t ->
  (exists more, road P (S t) = road P t ++ more) /\
  exists rest, complete HSM m t (road P t ++ rest) = true /\ cost (road P t ++ rest) = online P t.
Proof.
  intros m P t Ht. split. { destruct t; [lia|]. eexists. reflexivity. }
  destruct (road_ok m P t t ltac:(lia)) as (l & A & B & C & D). apply (completed m t _ l (held P t)); auto.
  exact (fits m P t Ht). exact (used_fits m P t Ht). exact (in_order m P t Ht). exact (of_held m P t Ht).
  intros x. exact (passed m P t x Ht).
Qed.
